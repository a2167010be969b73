package cli

import (
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A screen is a terminal that shows whole pages and gives single keys.
type screen struct {
	keys <-chan byte // closed when the terminal is gone

	file  *os.File
	out   io.Writer
	saved *unix.Termios
	quit  chan struct{}
	ended chan struct{}
}

// openScreen takes the terminal over; close gives it back as it was.
func openScreen(file *os.File, out io.Writer) (*screen, error) {
	saved, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	if err != nil {
		return nil, err
	}
	raw := *saved
	raw.Lflag &^= unix.ECHO | unix.ICANON | unix.ISIG
	raw.Iflag &^= unix.IXON | unix.ICRNL
	// A read returns after a tenth of a second at the latest, so that close waits
	// for no key.
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 0, 1
	if err := unix.IoctlSetTermios(int(file.Fd()), unix.TCSETS, &raw); err != nil {
		return nil, err
	}
	keys := make(chan byte)
	s := &screen{keys: keys, file: file, out: out, saved: saved, quit: make(chan struct{}), ended: make(chan struct{})}
	go s.listen(keys)
	_, err = io.WriteString(out, "\x1b[?1049h\x1b[?25l") // another page, no cursor
	return s, err
}

func (s *screen) listen(keys chan<- byte) {
	defer close(s.ended)
	defer close(keys)
	var key [1]byte
	for {
		n, err := unix.Read(int(s.file.Fd()), key[:])
		if errors.Is(err, unix.EAGAIN) {
			time.Sleep(50 * time.Millisecond)
		} else if err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if n != 1 {
			select {
			case <-s.quit:
				return
			default:
				continue
			}
		}
		select {
		case keys <- key[0]:
		case <-s.quit:
			return
		}
	}
}

// size is in columns and lines.
func (s *screen) size() (width, height int) {
	w, err := unix.IoctlGetWinsize(int(s.file.Fd()), unix.TIOCGWINSZ)
	if err != nil || w.Col == 0 || w.Row == 0 {
		return 80, 24
	}
	return int(w.Col), int(w.Row)
}

// draw replaces what is shown, in one write so that nothing flickers.
func (s *screen) draw(lines []string) error {
	var b strings.Builder
	b.WriteString("\x1b[H")
	for i, line := range lines {
		if i > 0 {
			b.WriteString("\r\n")
		}
		b.WriteString(line)
		b.WriteString("\x1b[K")
	}
	b.WriteString("\x1b[J")
	_, err := io.WriteString(s.out, b.String())
	return err
}

// close gives the terminal back.
func (s *screen) close() {
	close(s.quit)
	<-s.ended
	_ = unix.IoctlSetTermios(int(s.file.Fd()), unix.TCSETS, s.saved)
	_, _ = io.WriteString(s.out, "\x1b[?25h\x1b[?1049l")
}
