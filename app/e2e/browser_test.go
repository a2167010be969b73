package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browserShots names the folder that screenshots are kept in; without it none are
// taken.
const browserShots = "BROWSER_SHOTS"

// Sizes of screens that pages are looked at with.
var (
	desktop = screen{"1440", 1440, 900, false}
	laptop  = screen{"1200", 1200, 760, false}
	phone   = screen{"390", 390, 844, true}
	small   = screen{"360", 360, 640, true}
)

type screen struct {
	name          string
	width, height int64
	mobile        bool
}

// A browser is one Chromium with an empty profile. It fails the test for errors on
// the console, for what the content policy blocked, and for answers from 400 up.
type browser struct {
	t      *testing.T
	ctx    context.Context
	screen screen

	mu     sync.Mutex
	faults []string
	allow  []string // parts of addresses whose refusals a test expects
}

// openBrowser starts Chromium until the test ends. The time bounds all that is
// done with it; more are further flags.
func openBrowser(t *testing.T, within time.Duration, more ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is missing: apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox,
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("lang", "en-GB"), chromedp.Env("TZ=Europe/Berlin", "LC_ALL=C.UTF-8"),
		chromedp.UserDataDir(t.TempDir()), chromedp.WSURLReadTimeout(40*time.Second),
		// What is outside of the window is drawn but never presented, however large the
		// screen is set: an answer to a key there would count as late.
		chromedp.WindowSize(int(desktop.width), int(desktop.height)))
	options = append(options, more...)
	ctx, cancel := context.WithTimeout(context.Background(), within)
	ctx, stopAlloc := chromedp.NewExecAllocator(ctx, options...)
	ctx, stop := chromedp.NewContext(ctx)
	b := &browser{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, b.listen)
	if err := chromedp.Run(ctx, network.Enable(), log.Enable(), runtime.Enable()); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // waits until the process has ended
		stop()
		stopAlloc()
		cancel()
	})
	return b
}

// listen collects what no page of ours may cause.
func (b *browser) listen(event any) {
	switch e := event.(type) {
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError || e.Entry.Level == log.LevelWarning {
			b.note("%s: %s %s", e.Entry.Source, e.Entry.Text, e.Entry.URL)
		}
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.APITypeError || e.Type == runtime.APITypeWarning {
			var words []string
			for _, a := range e.Args {
				words = append(words, string(a.Value)+a.Description)
			}
			b.note("console: %s", strings.Join(words, " "))
		}
	case *runtime.EventExceptionThrown:
		b.note("exception: %s", e.ExceptionDetails.Error())
	case *network.EventResponseReceived:
		if e.Response.Status >= 400 {
			b.note("answer %d: %s", e.Response.Status, e.Response.URL)
		}
	}
}

func (b *browser) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, part := range b.allow {
		if strings.Contains(text, part) {
			return
		}
	}
	b.faults = append(b.faults, text)
}

// expect lets refusals pass whose text has the part.
func (b *browser) expect(part string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.allow = append(b.allow, part)
}

// check fails the test for what was collected since the last call.
func (b *browser) check(where string) {
	b.t.Helper()
	b.mu.Lock()
	faults := b.faults
	b.faults = nil
	b.mu.Unlock()
	for _, f := range faults {
		b.t.Errorf("%s: %s", where, f)
	}
}

// do runs actions and fails the test at the first that cannot be done.
func (b *browser) do(what string, actions ...chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v", what, err)
	}
}

// signIn gives the browser the cookie of somebody who is signed in.
func (b *browser) signIn(url string, cookie *http.Cookie) {
	b.t.Helper()
	b.do("set the cookie", chromedp.ActionFunc(func(ctx context.Context) error {
		return network.SetCookie(cookie.Name, cookie.Value).WithURL(url).WithPath(cookie.Path).WithHTTPOnly(true).WithSecure(cookie.Secure).Do(ctx)
	}))
}

// resize sets the screen.
func (b *browser) resize(s screen) {
	b.t.Helper()
	b.screen = s
	b.setScreen(s)
}

func (b *browser) setScreen(s screen) {
	b.t.Helper()
	b.do("set the screen to "+s.name, emulation.SetDeviceMetricsOverride(s.width, s.height, 1, s.mobile))
}

// colours chooses light or dark, as the system would.
func (b *browser) colours(scheme string) {
	b.t.Helper()
	b.do("choose colours", emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
}

// shot keeps a picture of the whole page when somebody wants pictures.
func (b *browser) shot(name string) {
	b.t.Helper()
	dir := os.Getenv(browserShots)
	if dir == "" {
		return
	}
	var picture []byte
	var height int64
	b.eval(`document.documentElement.scrollHeight`, &height)
	tall := b.screen
	tall.height = max(tall.height, height)
	b.setScreen(tall)
	defer b.setScreen(b.screen)
	b.do("take a picture", chromedp.ActionFunc(func(ctx context.Context) (err error) {
		picture, err = page.CaptureScreenshot().WithCaptureBeyondViewport(true).Do(ctx)
		return err
	}))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// open goes to a page and waits until it is drawn.
func (b *browser) open(url string) {
	b.t.Helper()
	b.do("open "+url, chromedp.Navigate(url), chromedp.WaitReady("#main"))
}

// eval asks the page.
func (b *browser) eval(script string, into any) {
	b.t.Helper()
	b.do("ask the page", chromedp.Evaluate(script, into))
}
