package app

import (
	"agentnet/web/dash"
)

// pages are the parts of this node that the console shows beside the relay.
func (a *App) pages() dash.Sources {
	return dash.Sources{Scaling: a.scaling, Notify: a.acting.notifier}
}
