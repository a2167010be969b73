package e2e_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// claims names, for each line of the contract, the test of this package that
// shows it over a real socket in both encodings. The fields of the kinds, the
// codes and the close codes are read out of PROTOCOL.md, so that a line that is
// added there fails TestCoverage until it has a test.
var claims = map[string]string{
	"client.connect":     "TestProtocolConnect TestProtocolTokenPlaces TestProtocolRule1Resume",
	"client.send":        "TestProtocolSend TestProtocolPayloads TestProtocolRule5Dedup TestProtocolReceipts",
	"client.request":     "TestProtocolRequest TestProtocolPayloads",
	"client.cancel":      "TestProtocolRequest",
	"client.receipt":     "TestProtocolReceipts",
	"client.reply":       "TestProtocolRequest TestProtocolPayloads",
	"client.subscribe":   "TestProtocolChannels TestProtocolSubscribeTwice TestProtocolPresence",
	"client.unsubscribe": "TestProtocolChannels",
	"client.publish":     "TestProtocolChannels TestProtocolPayloads TestProtocolRule5Dedup",
	"client.history":     "TestProtocolChannels TestProtocolRestart",
	"client.presence":    "TestProtocolPresence",
	"client.agents":      "TestProtocolDirectory",
	"client.profile":     "TestProtocolDirectory TestProtocolPresence",
	"client.ack":         "TestProtocolRule1Resume",
	"client.ping":        "TestProtocolPing",

	"server.connected": "TestProtocolConnect TestProtocolExample TestProtocolRule1Resume",
	"server.ok":        "TestProtocolSend TestProtocolChannels TestProtocolPresence TestProtocolDirectory",
	"server.error":     "TestProtocolSend TestProtocolRule7Rates",
	"server.message":   "TestProtocolSend TestProtocolChannels TestProtocolPayloads",
	"server.request":   "TestProtocolRequest TestProtocolPayloads",
	"server.reply":     "TestProtocolRequest TestProtocolPayloads",
	"server.cancel":    "TestProtocolRequest",
	"server.receipt":   "TestProtocolReceipts",
	"server.presence":  "TestProtocolPresence",
	"server.gap":       "TestProtocolRule1Bounds TestProtocolRule1Resume TestProtocolCloseSlow",
	"server.notice":    "TestProtocolDrain TestProtocolOverload",
	"server.pong":      "TestProtocolPing",

	"rule.1": "TestProtocolRule1Resume TestProtocolRule1Bounds", "rule.2": "TestProtocolRule2Order", "rule.3": "TestProtocolRule3Priority",
	"rule.4": "TestProtocolRule4Outcome", "rule.5": "TestProtocolRule5Dedup", "rule.6": "TestProtocolRule6Names",
	"rule.7": "TestProtocolRule7Limits TestProtocolRule7Rates", "rule.8": "TestProtocolCloseByMessage TestHostileJSON TestHostileProtobuf",
	"rule.9": "TestProtocolCloseByMessage TestProtocolCloseByTime", "rule.10": "TestProtocolRule10Sessions", "rule.11": "TestProtocolRule11Unknown",

	"transport.base":              "TestProtocolBasePath",
	"transport.subprotocols":      "TestProtocolSubprotocols",
	"transport.none is json":      "TestProtocolSubprotocols",
	"transport.unknown is 400":    "TestProtocolSubprotocols",
	"transport.batches":           "TestProtocolBatches",
	"transport.one frame a line":  "TestProtocolJSONForm",
	"transport.pretty json":       "TestProtocolJSONForm",
	"transport.data untouched":    "TestProtocolJSONForm TestProtocolPayloads",
	"transport.data or bytes":     "TestProtocolPayloads",
	"transport.token in frame":    "TestProtocolTokenPlaces",
	"transport.token in header":   "TestProtocolTokenPlaces",
	"transport.never in the url":  "TestProtocolTokenPlaces",
	"transport.id is echoed":      "TestProtocolBatches",
	"transport.exactly one kind":  "TestProtocolRule11Unknown",
	"transport.no id, no answer":  "TestProtocolSend TestProtocolChannels",
	"transport.key in the error":  "TestProtocolSend",
	"example":                     "TestProtocolExample",
	"restart":                     "TestProtocolRestart",
	"notice.drain":                "TestProtocolDrain",
	"notice.degraded":             "TestProtocolOverload",
	"receipts.delivered, expired": "TestProtocolReceipts",

	"http./v1/send": "TestProtocolHTTPMessages", "http./v1/request": "TestProtocolHTTPMessages", "http./v1/publish": "TestProtocolHTTPMessages",
	"http./v1/agents": "TestProtocolHTTPLists", "http./v1/channels": "TestProtocolHTTPLists", "http./v1/regions": "TestProtocolHTTPLists", "http./v1/stats": "TestProtocolHTTPLists",
	"http./v1/scaling/status": "TestProtocolHTTPPaths", "http./v1/scaling/desired": "TestProtocolHTTPPaths", "http./v1/scaling/log": "TestProtocolHTTPPaths",
	"http./v1/scaling/plan": "TestProtocolHTTPPaths", "http./v1/scaling/simulate": "TestProtocolHTTPPaths", "http./v1/alerts": "TestProtocolHTTPPaths",
	"http./healthz": "TestProtocolHTTPHealth", "http./readyz": "TestProtocolHTTPHealth TestProtocolOverload", "http./metrics": "TestProtocolHTTPHealth",
	"http./openapi.json": "TestProtocolHTTPPaths",

	"error.bad_frame": "TestProtocolSend", "error.unauthorized": "TestProtocolConnect", "error.forbidden": "TestProtocolConnect", "error.not_found": "TestProtocolReceipts",
	"error.agent_offline": "TestProtocolSend", "error.timeout": "TestProtocolRequest", "error.too_large": "TestProtocolRule7Limits", "error.rate_limited": "TestProtocolRule7Rates",
	"error.overloaded": "TestProtocolOverload", "error.unavailable": "TestProtocolCloseUnavailable", "error.conflict": "TestProtocolRule5Dedup", "error.gone": "TestProtocolRequest",

	"close.1000": "TestProtocolCloseByMessage", "close.1002": "TestProtocolCloseByMessage", "close.1003": "TestProtocolCloseByMessage", "close.1007": "TestProtocolCloseByMessage",
	"close.1008": "TestProtocolCloseByMessage", "close.1009": "TestProtocolCloseByMessage", "close.1011": "TestProtocolCloseUnavailable", "close.4000": "TestProtocolConnect",
	"close.4001": "TestProtocolConnect", "close.4002": "TestProtocolCloseSlow", "close.4003": "TestProtocolRule10Sessions", "close.4004": "TestProtocolDrain", "close.4006": "TestProtocolCloseByTime",
	"close.1001": "TestProtocolCloseByMessage",
}

// elsewhere lists what no client of one sound node can bring about, with the file
// and the test that show it one floor below.
var elsewhere = map[string][2]string{
	"error.internal": {"web/server_test.go", "TestPanicInAnyHandler"},
	"close.4005":     {"web/ws/turn_test.go", "TestAccept"},
	// That some nodes did not answer takes several.
	"server.ok.partial": {"app/relay/question_test.go", "TestDirectoryOfAllNodes"},
}

// unproven are fields of a notice that one node never sends; they come with the
// cluster.
var unproven = []string{"server.notice.endpoints"}

// words are how tests of Go write a field whose name does not show in them.
var words = map[string]string{"code": "refused(", "next": ".Next"}

func TestCoverage(t *testing.T) {
	tests := testFunctions(t, ".")
	for id, names := range claims {
		for _, name := range strings.Fields(names) {
			if _, there := tests[name]; !there {
				t.Errorf("%s is claimed to be shown by %s, which does not exist", id, name)
			}
		}
	}
	for id, where := range elsewhere {
		found := false
		for name := range testFunctions(t, filepath.Dir(filepath.Join("../..", where[0]))) {
			found = found || strings.HasPrefix(name, where[1])
		}
		if !found {
			t.Errorf("%s: there is no %s in %s", id, where[1], where[0])
		}
	}
	for _, id := range contractLines(t) {
		if slices.Contains(unproven, id) {
			continue
		}
		if _, there := elsewhere[id]; there {
			continue
		}
		names, there := claims[id]
		parts := strings.SplitN(id, ".", 3)
		if !there && len(parts) == 3 {
			names, there = claims[parts[0]+"."+parts[1]]
		}
		if !there {
			t.Errorf("%s of PROTOCOL.md has no test", id)
			continue
		}
		if len(parts) < 3 || parts[0] == "http" {
			continue
		}
		var text strings.Builder
		for _, name := range strings.Fields(names) {
			text.WriteString(tests[name])
		}
		for _, field := range strings.FieldsFunc(parts[2], func(r rune) bool { return strings.ContainsRune(" ,/", r) }) {
			field = field[strings.LastIndexByte(field, '.')+1:]
			if !speaks(text.String(), field) {
				t.Errorf("%s: none of %s speaks of %s", id, names, field)
			}
		}
	}
}

// speaks says whether a test's source reads or writes a field.
func speaks(text, field string) bool {
	for _, form := range []string{`"` + field + `"`, "." + camel(field), ".Get" + camel(field), words[field]} {
		if form != "" && strings.Contains(text, form) {
			return true
		}
	}
	return false
}

// camel is the name of a field in the generated code.
func camel(field string) string {
	var out string
	for _, part := range strings.Split(field, "_") {
		if part != "" {
			out += strings.ToUpper(part[:1]) + part[1:]
		}
	}
	return out
}

var (
	heading  = regexp.MustCompile("^### ([a-z]+)$")
	tableRow = regexp.MustCompile("^\\| (`[^|]*`[^|]*) \\|")
	ticks    = regexp.MustCompile("`([^`]+)`")
)

// contractLines are the lines of PROTOCOL.md: kinds, their fields, codes, close
// codes and paths.
func contractLines(t *testing.T) (ids []string) {
	t.Helper()
	text, err := os.ReadFile("../wire/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	side, kind := "", ""
	sides := map[string]string{"## Client to relay": "client", "## Relay to client": "server", "## Errors": "error", "## Close codes": "close", "## HTTP API": "http"}
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "## ") {
			side, kind = sides[line], ""
			continue
		}
		if m := heading.FindStringSubmatch(line); m != nil && side != "" {
			kind = m[1]
			ids = append(ids, side+"."+kind)
		}
		if side == "close" && regexp.MustCompile(`^\| \d{4} \|`).MatchString(line) {
			ids = append(ids, "close."+line[2:6])
		}
		m := tableRow.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		for _, f := range ticks.FindAllStringSubmatch(m[1], -1) {
			switch {
			case side == "error":
				ids = append(ids, "error."+f[1])
			case side == "http":
				path := strings.TrimPrefix(f[1][strings.LastIndexByte(f[1], ' ')+1:], "{base}")
				ids = append(ids, "http."+path)
			case kind == "ok": // rows are the commands that are answered; the fields follow
				for _, f := range ticks.FindAllStringSubmatch(strings.SplitN(line, "|", 4)[2], -1) {
					if !strings.ContainsAny(f[1], " {}") {
						ids = append(ids, "server.ok."+f[1])
					}
				}
			case kind != "":
				ids = append(ids, side+"."+kind+"."+f[1])
			}
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if len(ids) < 150 {
		t.Fatalf("%d lines were found in PROTOCOL.md: has its form changed? %v", len(ids), ids)
	}
	return ids
}

// testFunctions returns the source of each test function of a package.
func testFunctions(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	tests := make(map[string]string)
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, text, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil {
				continue
			}
			// The body of TestProtocolSend is protocolSend, which runs on several nodes too.
			if body, shared := strings.CutPrefix(f.Name.Name, "protocol"); strings.HasPrefix(f.Name.Name, "Test") || shared {
				name := f.Name.Name
				if shared {
					name = "TestProtocol" + body
				}
				tests[name] += string(text[set.Position(f.Pos()).Offset:set.Position(f.End()).Offset])
			}
		}
	}
	return tests
}
