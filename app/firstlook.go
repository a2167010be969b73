package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"agentnet/store"
)

// settingFirstLook says that an admin has put the first examination away.
const settingFirstLook = "console.first_look"

// firstMemory keeps in the database what admins put away.
type firstMemory struct{ a *App }

// Seen says whether the first look was put away on this node.
func (m firstMemory) Seen(ctx context.Context) (bool, error) {
	_, _, err := m.a.store.Setting(ctx, settingFirstLook)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// PutAway keeps that it was.
func (m firstMemory) PutAway(ctx context.Context) error {
	if err := m.a.store.PutSetting(ctx, settingFirstLook, "seen", time.Now()); err != nil {
		return fmt.Errorf("put the first look away: %w", err)
	}
	return nil
}
