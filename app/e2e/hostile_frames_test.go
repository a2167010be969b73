package e2e_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

func TestHostileJSON(t *testing.T) {
	n := hostileNode(t, nil)
	deep := func(k int) string { return strings.Repeat("[", k) + strings.Repeat("]", k) }
	send := func(fields string) string { return `{"id":5,"send":{"to":"hos/j",` + fields + `}}` }
	for _, c := range []struct{ name, sent, want string }{
		{"nested 64 deep", send(`"data":` + deep(64)), "ok"},
		{"nested 65 deep", send(`"data":` + deep(65)), "bad_frame"},
		{"nested 30,000 deep", send(`"data":` + deep(30000)), "bad_frame"},
		{"nested in an unknown field", send(`"x":` + deep(30000)), "bad_frame"},
		{"open brackets only", strings.Repeat("[", 60000), "bad_frame"},
		{"open braces only", strings.Repeat(`{"a":`, 12000), "bad_frame"},
		{"string of 64 KiB", send(`"data":"` + strings.Repeat("x", 65536) + `"`), "too_large"},
		{"string of 1 MiB", send(`"data":"` + strings.Repeat("x", 1<<20-100) + `"`), "too_large"},
		{"unfinished string", `{"id":5,"send":{"to":"` + strings.Repeat("x", 60000), "bad_frame"},
		{"key twice", send(`"to":"hos/j"`), "bad_frame"},
		{"kind twice", `{"id":5,"ping":{},"ping":{}}`, "bad_frame"},
		{"id twice", `{"id":5,"id":6,"ping":{}}`, "bad_frame"},
		{"header twice", send(`"headers":{"a":"1","a":"2"}`), "bad_frame"},
		{"data and bytes", send(`"data":1,"bytes":"AA=="`), "bad_frame"},
		{"bytes that are not base64", send(`"bytes":"*"`), "bad_frame"},
		{"id 2^53", `{"id":9007199254740992,"ping":{}}`, "bad_frame"},
		{"id of 300 digits", `{"id":` + strings.Repeat("9", 300) + `,"ping":{}}`, "bad_frame"},
		{"negative id", `{"id":-1,"ping":{}}`, "bad_frame"},
		{"fraction", `{"id":5,"ack":{"seq":1.5}}`, "bad_frame"},
		{"exponent", `{"id":5,"ack":{"seq":1e0}}`, "bad_frame"},
		{"number as text", `{"id":5,"ack":{"seq":"1"}}`, "bad_frame"},
		{"negative ttl", send(`"ttl_ms":-1`), "bad_frame"},
		{"NaN", send(`"data":NaN`), "bad_frame"},
		{"leading zero", send(`"data":01`), "bad_frame"},
		{"trailing comma", send(`"data":[1,]`), "bad_frame"},
		{"comment", send(`"data":1/**/`), "bad_frame"},
		{"single quotes", `{'id':5}`, "bad_frame"},
		{"raw control character in data", send("\"data\":\"\x01\""), "bad_frame"},
		{"NUL", "\x00", "bad_frame"},
		{"byte order mark", "\ufeff" + `{"id":5,"ping":{}}`, "bad_frame"},
		{"an array", `[{"id":5,"ping":{}}]`, "bad_frame"},
		{"a number", `5`, "bad_frame"},
		{"text behind", `{"id":5,"ping":{}}x`, "bad_frame"},
		{"CR LF in a name", `{"id":5,"send":{"to":"a\r\nb"}}`, "bad_frame"},
		{"NUL in a name", `{"id":5,"send":{"to":"a\u0000b"}}`, "bad_frame"},
		{"look-alike name", `{"id":5,"send":{"to":"аlice"}}`, "bad_frame"},
		{"name of 60,000 bytes", `{"id":5,"send":{"to":"` + strings.Repeat("n", 60000) + `"}}`, "bad_frame"},
		{"33 headers", send(`"headers":{` + manyHeaders(33) + `}`), "too_large"},
		{"empty header name", send(`"headers":{"":"x"}`), "bad_frame"},
		{"word that is none", send(`"priority":"urgent"`), "bad_frame"},
		{"bool as text", send(`"receipts":"true"`), "bad_frame"},
		{"kind that is null", `{"id":5,"ping":null}`, "bad_frame"},
		{"glob bomb", `{"id":5,"agents":{"match":"` + strings.Repeat("*a", 60) + `"}}`, "ok"},
		{"blank message", strings.Repeat(" \n", 1000), ""},
		{"empty message", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			unharmed(t, n, func(t *testing.T) {
				s := join(t, n, inJSON, "hos/j")
				s.say([]byte(c.sent + "\n" + `{"id":77,"ping":{}}`))
				var got []string
				s.await("the frame behind", func(h heard) bool { return h.Id == 77 })
				for _, h := range s.kept {
					if h.code() != "" {
						got = append(got, h.code())
						if m := h.GetError().Message; strings.Contains(m, "xxxxxxxx") || len(m) > 500 {
							t.Errorf("the error repeats what was sent: %.600q", m)
						}
					} else if h.kind() == "ok" {
						got = append(got, "ok")
					}
				}
				want := []string{c.want}
				if c.want == "" {
					want = nil
				}
				if len(got) != len(want) && !(c.name == "text behind" && len(got) == 1) || len(want) > 0 && got[0] != want[0] {
					t.Errorf("got %v, want %v", got, want)
				}
				s.leave()
			})
		})
	}
	for _, bad := range []string{"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf5\x80\x80\x80", "{\"ping\":{}}\xe2\x82"} {
		t.Run(fmt.Sprintf("invalid UTF-8 %x", bad), func(t *testing.T) {
			unharmed(t, n, func(t *testing.T) {
				s := join(t, n, inJSON, "hos/u")
				s.say([]byte(`{"id":5,"send":{"to":"hos/u","data":"` + bad + `"}}`))
				s.wantClose(1007)
				s.nc.Close()
			})
		})
	}
}

func manyHeaders(count int) string {
	var out []string
	for i := range count {
		out = append(out, fmt.Sprintf(`"h%d":""`, i))
	}
	return strings.Join(out, ",")
}

func TestHostileProtobuf(t *testing.T) {
	n := hostileNode(t, nil)
	frame := func(kind byte, body string) string { // id 5 and one kind of fewer than 128 bytes
		return "\x08\x05" + string(binary.AppendUvarint(nil, uint64(kind)<<3|2)) + string(binary.AppendUvarint(nil, uint64(len(body)))) + body
	}
	const send, ack, agents = 3, 15, 13
	to := "\x0a\x05hos/p"
	for _, c := range []struct{ name, sent, want string }{
		{"empty frame", "", "bad_frame"},
		{"group", frame(send, to+"\x0b\x0c"), "bad_frame"},
		{"group in the frame", "\x08\x05\x1b\x1c", "bad_frame"},
		{"wire type 6", frame(send, "\x0e"), "bad_frame"},
		{"wire type 7", frame(send, "\x0f"), "bad_frame"},
		{"field 0", frame(send, to+"\x02\x00"), "bad_frame"},
		{"field number 2^29", frame(send, to+"\x80\x80\x80\x80\x10\x00"), "bad_frame"},
		{"known field with another type", frame(send, "\x08\x01"), "bad_frame"},
		{"truncated varint", frame(send, to+"\x98\x01\xff"), "bad_frame"},
		{"varint of 11 bytes", frame(send, to+"\x98\x01"+strings.Repeat("\xff", 10)+"\x01"), "bad_frame"},
		{"length behind the end", frame(send, "\x0a\x7f"+"x"), "bad_frame"},
		{"length of 2 GiB", frame(send, "\x0a\x80\x80\x80\x80\x08"), "bad_frame"},
		{"length of -1", frame(send, "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "bad_frame"},
		{"kind behind the end", "\x08\x05\x1a\x70\x0a", "bad_frame"},
		{"kind of 2 GiB", "\x08\x05\x1a\xff\xff\xff\xff\x07", "bad_frame"},
		{"negative ttl", frame(send, to+"\x98\x01\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), "bad_frame"},
		{"seq 2^53", frame(ack, "\x30\x80\x80\x80\x80\x80\x80\x80\x10"), "bad_frame"},
		{"name with bad UTF-8", frame(send, "\x0a\x01\xff"), "bad_frame"},
		{"header with bad UTF-8", frame(send, to+"\x62\x06\x0a\x01h\x12\x01\xff"), "bad_frame"},
		{"name with NUL", frame(send, "\x0a\x03a\x00b"), "bad_frame"},
		{"enum 9", frame(send, to+"\x58\x09"), "bad_frame"},
		{"data that is not JSON", frame(send, to+"\x1a\x01{"), "bad_frame"},
		{"data of bad UTF-8", frame(send, to+"\x1a\x03\"\xff\""), "bad_frame"},
		{"deep data", frame(send, to+"\x1a\x70"+strings.Repeat("[", 56)+strings.Repeat("]", 56)), "ok"},
		{"no name", frame(send, ""), "bad_frame"},
		{"last scalar counts", frame(send, "\x0a\x02??"+to), "ok"},
		{"glob bomb", frame(agents, "\xa2\x02\x64"+strings.Repeat("*a", 50)), "ok"},
		{"too large", "\x08\x05\x1a\x80\x80\x08" + strings.Repeat("\x00", 1<<17), "too_large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			unharmed(t, n, func(t *testing.T) {
				s := join(t, n, inProtobuf, "hos/p")
				s.say(inProtobuf.join([]byte(c.sent), []byte("\x08\x4d\x82\x01\x00"))) // a ping with id 77 behind it
				s.await("the frame behind", func(h heard) bool { return h.Id == 77 })
				got := ""
				for _, h := range s.kept {
					if h.kind() == "ok" || h.kind() == "error" {
						got += h.code()
						if h.code() == "" {
							got += "ok"
						}
					}
				}
				if got != c.want {
					t.Errorf("got %q, want %q: %v", got, c.want, s.kept)
				}
				s.leave()
			})
		})
	}
	for name, prefix := range map[string]string{
		"length behind the end": "\x05\x08", "2 GiB": "\xff\xff\xff\xff\x07", "-1": strings.Repeat("\xff", 9) + "\x01", "11 bytes": strings.Repeat("\xff", 11),
		"truncated": "\xff", "2^63": strings.Repeat("\x80", 9) + "\x01",
	} {
		t.Run("message with a length "+name, func(t *testing.T) {
			unharmed(t, n, func(t *testing.T) {
				s := join(t, n, inProtobuf, "hos/p")
				s.say([]byte(prefix))
				s.wantClose(1002)
				s.nc.Close()
			})
		})
	}
	t.Run("random bytes", func(t *testing.T) {
		unharmed(t, n, func(t *testing.T) {
			seed := bytes.Repeat([]byte{0x1a, 0x05, 0x0a, 0xff, 0x08, 0x80, 0x01, 0x62}, 40)
			for i := range 100 {
				s := join(t, n, inProtobuf, "hos/r")
				s.say(seed[i%17 : 20+2*i])
				s.push(frameBytes(0x88, []byte{3, 0xe8}))
				if got := s.end(); got.code != 1002 && got.code != 1000 && got.code != 1008 {
					t.Errorf("%d: closed with %v", i, got)
				}
				s.nc.Close()
			}
		})
	})
}
