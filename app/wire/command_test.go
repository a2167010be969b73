package wire

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// readAll reads every frame of a message and returns each as JSON, or its refusal
// as "id/key code: text".
func readAll(t *testing.T, enc Encoding, msg string, lim *Limits) (frames []string) {
	t.Helper()
	var c Command
	for rest := []byte(msg); len(rest) > 0; {
		n, err := c.Read(enc, rest, lim)
		var refused *FrameError
		switch {
		case n < 1 || n > len(rest):
			t.Fatalf("%q: got n %d of %d", rest, n, len(rest))
		case errors.As(err, &refused):
			frames = append(frames, fmt.Sprintf("%d/%s %v", refused.ID, refused.Key, err))
		case err != nil:
			frames = append(frames, err.Error())
		case c.Kind != KindNone:
			frames = append(frames, string(AppendCommand(nil, JSON, &c)))
		}
		rest = rest[n:]
	}
	return frames
}

func TestReadJSON(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"id last", `{"send":{"to":"b"},"id":3}`, `{"id":3,"send":{"to":"b"}}`},
		{"no id", `{"send":{"to":"b"}}`, `{"send":{"to":"b"}}`},
		{"id 0 is none", `{"id":0,"ping":{}}`, `{"ping":{}}`},
		{"id null is none", `{"id":null,"ping":{}}`, `{"ping":{}}`},
		{"largest id", `{"id":9007199254740991,"ping":{}}`, `{"id":9007199254740991,"ping":{}}`},
		{"white space", " {\t\"id\" : 1 ,\r\n \"ack\" : { \"seq\" : 2 } } ", `{"id":1,"ack":{"seq":2}}`},
		{"escapes in keys and names", `{"\u0069d":1,"s\u0065nd":{"\u0074o":"b\u006fb\/x","ke\u0079":"a\tb"}}`, `{"id":1,"send":{"to":"bob/x","key":"a\tb"}}`},
		{"unknown fields", `{"send":{"x":{"to":"no"},"to":"b","y":[1,{"z":"\n"}],"yy":1e9}}`, `{"send":{"to":"b"}}`},
		{"unknown field twice", `{"send":{"x":1,"x":2,"to":"b"}}`, `{"send":{"to":"b"}}`},
		{"field of another kind", `{"ping":{"to":5}}`, `{"ping":{}}`},
		{"null fields", `{"send":{"to":"b","key":null,"headers":null,"priority":null,"bytes":null,"receipts":null}}`, `{"send":{"to":"b"}}`},
		{"null kind", `{"send":{"to":"b"},"publish":null,"later":null}`, `{"send":{"to":"b"}}`},
		{"null data is a value", `{"send":{"to":"b","data":null}}`, `{"send":{"to":"b","data":null}}`},
		{"data as it came", `{"send":{"to":"b","data": { "a" : [ 1.50e+1 , "\u0041" ] } }}`, `{"send":{"to":"b","data":{ "a" : [ 1.50e+1 , "\u0041" ] }}}`},
		{"data in lines", "{\"send\":{\"to\":\"b\",\"data\":{\n  \"a\":\r\n 1}}}", `{"send":{"to":"b","data":{  "a": 1}}}`},
		{"bytes", `{"send":{"to":"b","bytes":"+/8="}}`, `{"send":{"to":"b","bytes":"+/8="}}`},
		{"bytes, url alphabet, unpadded", `{"send":{"to":"b","bytes":"-_8"}}`, `{"send":{"to":"b","bytes":"+/8="}}`},
		{"bytes, empty", `{"send":{"to":"b","bytes":""}}`, `{"send":{"to":"b","bytes":""}}`},
		{"priority", `{"send":{"to":"b","priority":"critical"}}`, `{"send":{"to":"b","priority":"critical"}}`},
		{"priority normal", `{"send":{"to":"b","priority":"normal"}}`, `{"send":{"to":"b"}}`},
		{"headers", `{"publish":{"channel":"a","headers":{"k":"v","n":null,"q\"":"\n"}}}`, `{"publish":{"channel":"a","headers":{"k":"v","q\"":"\n"}}}`},
		{"reply error", `{"reply":{"request":4,"error":{"code":"full","message":"é","x":1}}}`, `{"reply":{"request":4,"error":{"code":"full","message":"é"}}}`},
		{"ack of 0", `{"ack":{"seq":0}}`, `{"ack":{"seq":0}}`},
		{"since", `{"subscribe":{"channel":"a","since":{"offset":0,"epoch":"e"}}}`, `{"subscribe":{"channel":"a","since":{"epoch":"e","offset":0}}}`},
		{"since nothing", `{"history":{"channel":"a","since":{}}}`, `{"history":{"channel":"a","since":{"offset":0}}}`},
		{"profile", `{"profile":{"card":{"a":[]},"keys":null,"state":"busy"}}`, `{"profile":{"card":{"a":[]},"state":"busy"}}`},
		{"empty connect", `{"connect":{}}`, `{"connect":{}}`},
		{"empty resume list", `{"connect":{"resume":{"session":"s","channels":[]}}}`, `{"connect":{"resume":{"session":"s","seq":0}}}`},

		{"string instead of number", `{"id":"1","ping":{}}`, `0/ bad_frame: id: ` + wantNumber},
		{"negative", `{"id":1,"ack":{"seq":-1}}`, `1/ bad_frame: ack.seq: ` + wantNumber},
		{"fraction", `{"id":1,"ack":{"seq":1.0}}`, `1/ bad_frame: ack.seq: ` + wantNumber},
		{"exponent", `{"id":1,"ack":{"seq":1e3}}`, `1/ bad_frame: ack.seq: ` + wantNumber},
		{"leading zero", `{"id":1,"ack":{"seq":01}}`, `1/ bad_frame: byte 22: expected no digit after a leading zero`},
		{"too large a number", `{"id":1,"ack":{"seq":9007199254740992}}`, `1/ bad_frame: ack.seq: ` + wantNumber},
		{"far too large a number", `{"id":1,"ack":{"seq":99999999999999999999999}}`, `1/ bad_frame: ack.seq: ` + wantNumber},
		{"number instead of string", `{"id":1,"send":{"to":1}}`, `1/ bad_frame: send.to: expected a string`},
		{"number instead of flag", `{"id":1,"send":{"to":"b","receipts":1}}`, `1/ bad_frame: send.receipts: expected true or false`},
		{"array instead of object", `{"id":1,"send":[]}`, `1/ bad_frame: send: expected an object`},
		{"string instead of since", `{"id":1,"history":{"channel":"a","since":"x"}}`, `1/ bad_frame: history.since: expected an object`},
		{"deep in connect", `{"id":1,"connect":{"resume":{"channels":[{"channel":"a","offset":"x"}]}}}`, `1/ bad_frame: connect.resume.channels.offset: ` + wantNumber},
		{"list of no objects", `{"id":1,"connect":{"resume":{"session":"s","channels":[1]}}}`, `1/ bad_frame: connect.resume.channels: expected an object`},
		{"no list", `{"id":1,"connect":{"resume":{"session":"s","channels":{}}}}`, `1/ bad_frame: connect.resume.channels: expected an array`},
		{"headers no object", `{"id":1,"send":{"to":"b","headers":["a"]}}`, `1/ bad_frame: send.headers: expected an object of strings`},
		{"header no string", `{"id":1,"send":{"to":"b","headers":{"a":1}}}`, `1/ bad_frame: send.headers: expected an object of strings`},
		{"header twice", `{"id":1,"send":{"to":"b","headers":{"a":"1","a":"2"}}}`, `1/ bad_frame: send.headers: a header is given twice`},
		{"header without name", `{"id":1,"send":{"to":"b","headers":{"":"1"}}}`, `1/ bad_frame: send.headers: expected a header's name that is not empty`},
		{"missing", `{"id":1,"send":{"data":1}}`, `1/ bad_frame: send.to: missing`},
		{"missing because null", `{"id":1,"publish":{"channel":null}}`, `1/ bad_frame: publish.channel: missing`},
		{"missing seq", `{"id":1,"ack":{}}`, `1/ bad_frame: ack.seq: missing`},
		{"request 0", `{"id":1,"cancel":{"request":0}}`, `1/ bad_frame: cancel.request: expected the number of a request, from 1`},
		{"field twice", `{"id":1,"send":{"to":"a","to":"b"}}`, `1/ bad_frame: send.to: given twice`},
		{"id twice", `{"id":1,"id":2,"ping":{}}`, `1/ bad_frame: id is given twice`},
		{"kind twice", `{"id":1,"ping":{},"ping":{}}`, `1/ bad_frame: a frame has one kind, this one has two`},
		{"two kinds", `{"ping":{},"id":1,"ack":{"seq":1}}`, `1/ bad_frame: a frame has one kind, this one has two`},
		{"unknown kind", `{"explode":{"a":1},"id":1}`, `1/ bad_frame: unknown kind explode`},
		{"kind of the relay", `{"pong":{},"id":1}`, `1/ bad_frame: unknown kind pong`},
		{"strange kind is not repeated", `{"id":1,"Agn_secret":{}}`, `1/ bad_frame: unknown kind`},
		{"no kind", `{"id":1}`, `1/ bad_frame: the frame has no kind`},
		{"nothing", `{}`, `0/ bad_frame: the frame has no kind`},
		{"data and bytes", `{"id":1,"send":{"to":"b","data":1,"bytes":"AA"}}`, `1/ bad_frame: send.bytes: a frame has either data or bytes`},
		{"bytes and data", `{"id":1,"send":{"to":"b","bytes":"","data":1}}`, `1/ bad_frame: send.data: a frame has either data or bytes`},
		{"no base64", `{"id":1,"send":{"to":"b","bytes":"a*"}}`, `1/ bad_frame: send.bytes: expected base64`},
		{"priority word", `{"id":1,"send":{"to":"b","priority":"urgent"}}`, `1/ bad_frame: send.priority: ` + wantClass},
		{"priority number", `{"id":1,"send":{"to":"b","priority":1}}`, `1/ bad_frame: send.priority: expected a string`},
		{"receipt state", `{"id":1,"receipt":{"id":"m","state":"delivered"}}`, `1/ bad_frame: receipt.state: ` + wantReceipt},
		{"profile state", `{"id":1,"profile":{"state":"offline"}}`, `1/ bad_frame: profile.state: ` + wantState},
		{"presence of nothing", `{"id":1,"presence":{}}`, `1/ bad_frame: presence.channel: expected a channel or an agent`},
		{"presence of both", `{"id":1,"presence":{"channel":"a","agent":"b"}}`, `1/ bad_frame: presence.agent: expected either a channel or an agent`},
		{"glob", `{"id":1,"agents":{"match":"a//*"}}`, `1/ bad_frame: agents.match: ` + wantGlob},
		{"agent with three parts", `{"id":1,"send":{"to":"a/b/c"}}`, `1/ bad_frame: send.to: ` + wantAgent},
		{"agent with a space", `{"id":1,"request":{"to":"a b"}}`, `1/ bad_frame: request.to: ` + wantAgent},
		{"empty part", `{"id":1,"subscribe":{"channel":"/a"}}`, `1/ bad_frame: subscribe.channel: ` + wantChannel},
		{"error and answer", `{"id":1,"reply":{"request":1,"data":1,"error":{"code":"x"}}}`, `1/ bad_frame: reply.error: a reply has either an error or a payload`},
		{"error without code", `{"id":1,"reply":{"request":1,"error":{}}}`, `1/ bad_frame: reply.error: expected a code of 1 to 64 bytes of a-z 0-9 _ . -`},
		{"resume without session", `{"id":1,"connect":{"resume":{"seq":1}}}`, `1/ bad_frame: connect.resume: session is missing`},
		{"key without id", `{"send":{"key":"k","to":1}}`, `0/k bad_frame: send.to: expected a string`},
		{"key after the fault", `{"send":{"to":1,"key":"k"}}`, `0/k bad_frame: send.to: expected a string`},
		{"key with id", `{"id":1,"send":{"to":1,"key":"k"}}`, `1/ bad_frame: send.to: expected a string`},

		{"syntax", `{"id":1,"send":{"to":"b",}}`, `1/ bad_frame: byte 25: expected a key in quotes`},
		{"cut off after {", `{`, `0/ bad_frame: byte 1: expected the end of an object or array`},
		{"cut off in a key", `{"i`, `0/ bad_frame: byte 3: expected the end of a string`},
		{"cut off after a key", `{"id"`, `0/ bad_frame: byte 5: expected ':'`},
		{"cut off after a colon", `{"id":`, `0/ bad_frame: byte 6: expected a value`},
		{"cut off after a comma", `{"id":1,`, `1/ bad_frame: byte 8: expected a value after ','`},
		{"no colon", `{"id" 1}`, `0/ bad_frame: byte 6: expected ':'`},
		{"key without quotes", `{id:1}`, `0/ bad_frame: byte 1: expected a key in quotes`},
		{"escape cut off", `{"ping":{"a":"\`, `0/ bad_frame: byte 14: expected an escape of JSON`},
		{"header cut off", `{"id":1,"send":{"headers":{"a":`, `1/ bad_frame: byte 31: expected a value`},
		{"list cut off", `{"id":1,"connect":{"resume":{"channels":[`, `1/ bad_frame: byte 41: expected the end of an object or array`},
		{"id is a fraction", `{"id":1.5,"ping":{}}`, `0/ bad_frame: id: ` + wantNumber},
		{"empty kind", `{"":{}}`, `0/ bad_frame: unknown kind`},
		{"code of a reply's error", `{"id":1,"reply":{"request":1,"error":{"code":"No Room"}}}`, `1/ bad_frame: reply.error: expected a code of 1 to 64 bytes of a-z 0-9 _ . -`},
		{"receipt of nothing", `{"id":1,"receipt":{"id":"","state":"done"}}`, `1/ bad_frame: receipt.id: expected the id of a message`},
		{"cut off", `{"id":1,"send":{"to":"b"`, `1/ bad_frame: byte 24: expected the end of an object or array`},
		{"no object", `[1]`, `0/ bad_frame: byte 0: expected a frame: an object`},
		{"bad data", `{"id":1,"send":{"to":"b","data":{"a":01}}}`, `1/ bad_frame: byte 38: expected no digit after a leading zero`},
		{"control byte", "{\"id\":1,\"send\":{\"to\":\"b\",\"data\":\"\x01\"}}", `1/ bad_frame: byte 33: expected no control byte in a string`},
		{"not UTF-8", "{\"id\":1,\"send\":{\"to\":\"b\",\"data\":\"\xff\"}}", `1/ bad_frame: byte 33: expected UTF-8`},
		{"too deep", `{"id":1,"send":{"to":"b","data":` + strings.Repeat("[", 65), `1/ bad_frame: byte 96: expected at most 64 levels of nesting`},
	} {
		got := strings.Join(readAll(t, JSON, tt.in, nil), " ; ")
		if got != tt.want {
			t.Errorf("%s: %s\ngot  %s\nwant %s", tt.name, tt.in, got, tt.want)
		}
	}
}

func TestReadSeveral(t *testing.T) {
	const ping, bad = `{"ping":{}}`, `0/ bad_frame: byte 0: expected a frame: an object`
	for _, tt := range []struct {
		name, in string
		want     []string
	}{
		{"lines", "{\"ping\":{}}\n{\"ping\":{}}\n", []string{ping, ping}},
		{"on one line", `{"ping":{}}{"ping":{}} {"ping":{}}`, []string{ping, ping, ping}},
		{"white space", " \n\t\r ", nil},
		{"nothing", "", nil},
		{"a bad line", "garbage\n{\"ping\":{}}", []string{bad, ping}},
		{"rest of a line is lost", "x{\"ping\":{}}\n{\"ping\":{}}", []string{bad, ping}},
		{"a line cut off", "{\"id\":1,\"ack\":{\"seq\":1\n{\"ping\":{}}\n{\"ping\":{}}",
			[]string{"1/ bad_frame: byte 23: expected ',' or the end of the object or array", ping, ping}},
		{"a line cut off in a string", "{\"id\":1,\"send\":{\"to\":\"b\n{\"ping\":{}}",
			[]string{"1/ bad_frame: byte 23: expected no control byte in a string", ping}},
		{"a refused one", "{\"id\":1,\"boo\":{}}\n{\"ping\":{}}", []string{"1/ bad_frame: unknown kind boo", ping}},
		{"between lines", "{\"ping\":{}}\n\n\n{\"ping\":{}}", []string{ping, ping}},
		{"a comma between", "{\"ping\":{}},\n{\"ping\":{}}", []string{ping, bad, ping}},
		{"printed prettily", "{\n  \"id\": 1,\n  \"ack\": {\n    \"seq\": 2\n  }\n}\n", []string{`{"id":1,"ack":{"seq":2}}`}},
	} {
		got := readAll(t, JSON, tt.in, nil)
		if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
			t.Errorf("%s:\ngot  %q\nwant %q", tt.name, got, tt.want)
		}
	}
}

func TestLimits(t *testing.T) {
	lim := Limits{FrameBytes: 80, Subscriptions: 1, HeaderCount: 2, HeaderBytes: 10, MaxTTLMS: 100, MaxTimeoutMS: 50}
	x := strings.Repeat("x", 70)
	for _, tt := range []struct{ name, in, want string }{
		{"frame", `{"send":{"to":"b","data":"` + x + `"},"id":1}`, "1/ too_large: the frame has 106 bytes, the limit is 80"},
		{"frame with room around", strings.Repeat(" ", 100) + `{"ping":{}}` + strings.Repeat(" ", 100), `{"ping":{}}`},
		{"header count", `{"id":1,"send":{"to":"b","headers":{"a":"","b":"","c":""}}}`, "1/ too_large: send.headers: more than 2 headers"},
		{"header bytes", `{"id":1,"send":{"to":"b","headers":{"a":"12345","b":"1234"}}}`, "1/ too_large: send.headers: more than 10 bytes of headers"},
		{"ttl", `{"id":1,"send":{"to":"b","ttl_ms":101}}`, "1/ too_large: send.ttl_ms: 101 ms, the limit is 100"},
		{"timeout", `{"id":1,"request":{"to":"b","timeout_ms":51}}`, "1/ too_large: request.timeout_ms: 51 ms, the limit is 50"},
		{"largest ttl", `{"send":{"to":"b","ttl_ms":100}}`, `{"send":{"to":"b","ttl_ms":100}}`},
		{"channels", `{"id":1,"connect":{"resume":{"session":"s","channels":[{},{}]}}}`, "1/ too_large: connect.resume.channels: more than 1 channels"},
	} {
		if got := strings.Join(readAll(t, JSON, tt.in, &lim), " ; "); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.name, got, tt.want)
		}
	}
	long := strings.Repeat("k", KeyBytes+1)
	for in, want := range map[string]string{
		`{"id":1,"send":{"to":"b","key":"` + long + `"}}`:                                         "1/ too_large: send.key: 129 bytes, the limit is 128",
		`{"id":1,"request":{"to":"b","method":"` + long + `"}}`:                                   "1/ too_large: request.method: 129 bytes, the limit is 128",
		`{"id":1,"send":{"to":"` + long + `"}}`:                                                   "1/ bad_frame: send.to: " + wantAgent,
		`{"id":1,"receipt":{"id":"` + long + `","state":"done"}}`:                                 "1/ too_large: receipt.id: 129 bytes, the limit is 64",
		`{"id":1,"receipt":{"id":"m","state":"done","note":"` + strings.Repeat("n", 1025) + `"}}`: "1/ too_large: receipt.note: 1025 bytes, the limit is 1024",
	} {
		if got := strings.Join(readAll(t, JSON, in, nil), " ; "); got != want {
			t.Errorf("%.60s: got %s, want %s", in, got, want)
		}
	}
	// The same bounds hold in protobuf.
	c := Command{ID: 1, Kind: KindSend, To: []byte("b"), Class: Normal, Headers: []Header{{"a", "12345"}, {"b", "1234"}}}
	if got, want := readAll(t, Protobuf, string(AppendFramedCommand(nil, Protobuf, &c)), &lim)[0], "1/ too_large: send.headers: more than 10 bytes of headers"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	c = Command{ID: 1, Kind: KindSend, To: []byte("b"), Class: Normal, Payload: Payload{Data: []byte(`"` + x + x + `"`)}}
	if got, want := readAll(t, Protobuf, string(AppendFramedCommand(nil, Protobuf, &c)), &lim)[0], "1/ too_large: the frame has 153 bytes, the limit is 80"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A reused Command holds nothing of the frame before, and what it holds stays
// right although its scratch space grew while it was read.
func TestCommandReuse(t *testing.T) {
	var c Command
	first := `{"id":1,"send":{"to":"\u0062","key":"\u006b","bytes":"` + strings.Repeat("AAAA", 1000) + `","headers":{"a":"b"},"receipts":true,"ttl_ms":5,"priority":"low"}}`
	if _, err := c.Read(JSON, []byte(first), nil); err != nil {
		t.Fatal(err)
	}
	if string(c.To) != "b" || string(c.Key) != "k" || len(c.Payload.Data) != 3000 {
		t.Errorf("got to %q, key %q, %d bytes", c.To, c.Key, len(c.Payload.Data))
	}
	headers := c.Headers
	if _, err := c.Read(JSON, []byte(`{"send":{"to":"x","headers":{"c":"d"}}}`), nil); err != nil {
		t.Fatal(err)
	}
	if got, want := string(AppendCommand(nil, JSON, &c)), `{"send":{"to":"x","headers":{"c":"d"}}}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if headers[0] != (Header{"a", "b"}) {
		t.Errorf("headers of the frame before became %v", headers)
	}
}
