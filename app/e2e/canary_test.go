package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"agentnet/app"
)

// A marker is a planted secret, in the forms that it may be found in.
type marker struct{ name, text string }

func (m marker) forms() [][]byte {
	text := []byte(m.text)
	forms := [][]byte{text, []byte(hex.EncodeToString(text)), []byte(fmt.Sprintf("%x", text))}
	for shift := range 3 { // base64 looks different at each of three places
		coded := base64.StdEncoding.EncodeToString(append(make([]byte, shift), text...))
		forms = append(forms, []byte(strings.TrimRight(coded, "=")[4:len(coded)-6]))
	}
	return forms
}

// findIn names the markers that data holds.
func findIn(markers []marker, data []byte) (found []string) {
	for _, m := range markers {
		for _, form := range m.forms() {
			if bytes.Contains(data, form) {
				found = append(found, m.name)
				break
			}
		}
	}
	return found
}

// TestCanary plants secrets in everything that a client can send, runs all
// features with their errors and a restart, and then looks
// for them everywhere that is not memory.
func TestCanary(t *testing.T) {
	rule := func(c *app.Config) {
		calm(c)
		c.Channels = []app.ChannelRule{{Match: []string{"kept/**"}, Policy: "drop_oldest", RecentCount: 10, RecentBytes: 1 << 20, RecentAge: app.Duration(time.Minute), KeepCount: 100}}
		c.Log.Level = "debug"
	}
	n := calmNode(t, rule)
	plant := func(kind string, d dialect) string { return "CANARY" + strings.ToUpper(kind+d.name) + "7f3a9c" }
	var secrets, payloads, kept, parked []marker
	var answers bytes.Buffer // everything that the HTTP doors said
	door := func(method, path, token string, body []byte) {
		res, text := request(t, method, n.URL+path, token, body)
		fmt.Fprint(&answers, res.Header, string(text))
	}
	bothWays(t, func(t *testing.T, d dialect) {
		mark := func(list *[]marker, kind string) string {
			text := plant(kind, d)
			*list = append(*list, marker{kind + " in " + d.name, text})
			return text
		}
		payload, binary, header, key, note := mark(&payloads, "payload"), mark(&payloads, "binary"), mark(&payloads, "header"), mark(&payloads, "dedup"), mark(&payloads, "note")
		method, failure, client := mark(&payloads, "method"), mark(&payloads, "failure"), mark(&payloads, "client")
		card := mark(&payloads, "card")
		me, you := "can/a-"+d.name, "can/b-"+d.name
		opaque := n.Token(me)
		web := jwt(t, time.Hour, obj{"agents": me, "send": "**", "publish": "**", "subscribe": "**", "roles": "admin"})
		secrets = append(secrets, marker{"opaque token", opaque}, marker{"jwt", web}, marker{"signature", web[strings.LastIndex(web, ".")+1:]})
		a := joinWith(t, n, d, obj{"token": opaque, "client": obj{"name": client}})
		b := join(t, n, d, you)
		secrets = append(secrets, marker{"token of b", b.token}, marker{"session of a", a.hello.Session}, marker{"session of b", b.hello.Session})
		body := obj{"data": raw(`{"secret":"` + payload + `"}`), "headers": obj{"h": header}, "key": key}
		with := func(kind, field, name string) obj {
			fields := obj{field: name}
			for k, v := range body {
				fields[k] = v
			}
			return obj{kind: fields}
		}
		a.ok(obj{"profile": obj{"card": raw(`{"x":"` + card + `"}`), "keys": raw(`"` + card + `"`)}})
		a.ok(with("send", "to", you))
		b.next("message")
		a.ok(obj{"send": obj{"to": you, "bytes": []byte(binary), "receipts": true}})
		m := b.next("message").GetMessage()
		b.tell(obj{"receipt": obj{"id": m.Id, "state": "done", "note": note}})
		a.next("receipt")
		b.ok(obj{"subscribe": obj{"channel": "plain/" + d.name, "presence": true}})
		body["key"] = key + "2"
		a.ok(with("publish", "channel", "plain/"+d.name))
		b.want("message")
		a.ok(obj{"history": obj{"channel": "plain/" + d.name}})
		a.tell(obj{"id": a.number(), "request": obj{"to": you, "method": method, "data": raw(`"` + payload + `"`)}})
		q := b.want("request").GetRequest()
		b.tell(obj{"reply": obj{"request": q.Request, "error": obj{"code": "no", "message": failure}}})
		a.next("reply")
		a.ok(obj{"publish": obj{"channel": "kept/" + d.name, "data": raw(`"` + mark(&kept, "kept") + `"`)}})
		a.ok(obj{"send": obj{"to": "can/late-" + d.name, "ttl_ms": 600000, "data": raw(`"` + mark(&parked, "parked") + `"`)}})
		// Errors: each repeats nothing.
		body["key"] = key
		a.refused("agent_offline", obj{"send": obj{"to": "can/nobody", "data": raw(`"` + payload + `"`)}})
		a.refused("bad_frame", obj{"send": obj{"to": payload + "//", "data": raw(`"` + payload + `"`)}})
		a.refused("conflict", with("publish", "channel", "plain/"+d.name))
		a.refused("too_large", obj{"send": obj{"to": you, "data": raw(`"` + strings.Repeat(payload, 4000) + `"`)}})
		a.refused("conflict", obj{"connect": obj{"token": opaque}})
		a.say([]byte("\x05" + payload)) // no frame at all
		if d == inProtobuf {
			a.end()
			a = a.resume(n, d, 0)
			a.fence()
		}
		a.fence()
		a.drop()
		b.ok(obj{"send": obj{"to": me, "data": raw(`"` + payload + `"`), "priority": "high", "key": "x" + key}})
		b.leave()
		wrong := mark(&secrets, "wrongtoken")
		bad := dialRaw(t, n.URL, d)
		bad.refused("unauthorized", obj{"connect": obj{"token": wrong}})
		bad.wantClose(4000)
		bad = dialRaw(t, n.URL, d)
		bad.say([]byte(wrong + payload))
		bad.end()
		// HTTP, with errors at every door.
		text := appendJSON(nil, with("send", "to", "can/late-"+d.name)["send"])
		door("POST", "/v1/send", web, text)
		door("POST", "/v1/send", wrong, text)
		door("POST", "/v1/send", web, []byte(payload))
		door("POST", "/v1/send?token="+wrong, "", text)
		door("POST", "/v1/request", web, text)
		door("POST", "/v1/publish", web, appendJSON(nil, with("publish", "channel", payload+"//")["publish"]))
		door("GET", "/"+payload+"?access_token="+wrong, "", nil)
		door("GET", "/ws?token="+wrong, "", nil)
		for _, path := range []string{"/metrics", "/v1/stats", "/v1/channels", "/v1/regions", "/readyz", "/healthz", "/openapi.json", "/", "/static/app.css"} {
			door("GET", path, web, nil)
		}
	})
	all := func(lists ...[]marker) (out []marker) {
		for _, l := range lists {
			out = append(out, l...)
		}
		return out
	}
	n2 := lone(n.Restart(rule))
	for _, d := range []dialect{inJSON, inProtobuf} {
		a := join(t, n2, d, "can/late2")
		a.ok(obj{"history": obj{"channel": "kept/" + d.name}})
		a.leave()
	}
	// One message is fetched and acknowledged; the other waits on.
	late := join(t, n2, inJSON, "can/late-json")
	late.next("message")
	res, text := request(t, "GET", n2.URL+"/metrics", "", nil)
	fmt.Fprint(&answers, res.Header, string(text))
	n2.Stop()

	everything := all(secrets, payloads, kept, parked)
	if found := findIn(everything, []byte(n.Log()+n2.Log())); len(found) > 0 {
		t.Errorf("the log holds %v", found)
	}
	// The agents' cards are what /v1/agents is for; everything else says nothing.
	if found := findIn(everything, answers.Bytes()); len(found) > 0 {
		t.Errorf("answers over HTTP hold %v", found)
	}
	inJournal, inSnapshot := map[string]bool{}, map[string]bool{}
	err := filepath.WalkDir(n.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(n.Dir, path)
		for _, found := range findIn(everything, data) {
			switch {
			case strings.HasPrefix(name, "journal/"):
				inJournal[found] = true
			case strings.HasPrefix(name, "embedded/"):
				inSnapshot[found] = true
			default:
				t.Errorf("%s holds %s", name, found)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the journal holds %v, the snapshot %v", inJournal, inSnapshot)
	// What must be kept is there, which also shows that this test can find things;
	// nothing else is.
	for _, m := range parked {
		if m.name == "parked in protobuf" && !inJournal[m.name] {
			t.Errorf("the journal does not hold %s", m.name)
		}
		delete(inJournal, m.name)
	}
	for _, m := range kept {
		if !inSnapshot[m.name] {
			t.Errorf("the snapshot does not hold %s", m.name)
		}
		delete(inSnapshot, m.name)
	}
	for _, m := range secrets {
		if inJournal[m.name] || inSnapshot[m.name] {
			t.Errorf("journal %v, snapshot %v: a secret is stored: %s", inJournal[m.name], inSnapshot[m.name], m.name)
		}
	}
	// Payloads that were parked over HTTP, or for a session that was away, are the
	// journal's to keep until they are fetched or expire.
	for _, d := range []dialect{inJSON, inProtobuf} {
		delete(inJournal, "payload in "+d.name)
	}
	if len(inJournal)+len(inSnapshot) > 0 {
		t.Errorf("besides what they must, the journal holds %v and the snapshot %v", inJournal, inSnapshot)
	}
}
