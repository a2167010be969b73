package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "agentnet/app/wire/agentnetpb"
)

// A second decoder of JSON commands, slow and plain, made of encoding/json and
// the schema's descriptors: what PROTOCOL.md says, written down once more. It
// shares nothing with the scanner that it is held against.

var errReference = errors.New("refused")

type member struct {
	key   string
	value json.RawMessage
}

// membersOf takes an object apart, repeated keys included.
func membersOf(raw []byte) ([]member, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, errReference
	}
	var ms []member
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, errReference
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, errReference
		}
		ms = append(ms, member{key.(string), value})
	}
	return ms, nil
}

var wholeNumber = regexp.MustCompile(`^(0|[1-9][0-9]{0,15})$`)

func referenceNumber(raw []byte) (uint64, error) {
	if !wholeNumber.Match(raw) {
		return 0, errReference
	}
	v, err := strconv.ParseUint(string(raw), 10, 64)
	if err != nil || v > 1<<53-1 {
		return 0, errReference
	}
	return v, nil
}

func referenceString(raw []byte) (string, error) {
	var v string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &v) != nil {
		return "", errReference
	}
	return v, nil
}

func isNull(raw []byte) bool { return string(raw) == "null" }

// referenceObject fills a message from a JSON object.
func referenceObject(raw []byte, into protoreflect.Message) error {
	ms, err := membersOf(raw)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, m := range ms {
		f := into.Descriptor().Fields().ByName(protoreflect.Name(m.key))
		if f == nil {
			continue
		}
		if seen[m.key] {
			return errReference
		}
		seen[m.key] = true
		if isNull(m.value) && m.key != "data" {
			continue
		}
		if m.key == "data" && seen["bytes"] && into.Has(into.Descriptor().Fields().ByName("bytes")) ||
			m.key == "bytes" && into.Has(into.Descriptor().Fields().ByName("data")) {
			return errReference
		}
		if err := referenceField(m.value, into, f); err != nil {
			return err
		}
	}
	return nil
}

func referenceField(raw []byte, into protoreflect.Message, f protoreflect.FieldDescriptor) error {
	switch {
	case f.IsMap():
		return referenceHeaders(raw, into.Mutable(f).Map())
	case f.IsList():
		var elements []json.RawMessage
		if raw[0] != '[' || json.Unmarshal(raw, &elements) != nil {
			return errReference
		}
		list := into.Mutable(f).List()
		for _, e := range elements {
			if err := referenceObject(e, list.AppendMutable().Message()); err != nil {
				return err
			}
		}
		return nil
	}
	switch f.Kind() {
	case protoreflect.MessageKind:
		return referenceObject(raw, into.Mutable(f).Message())
	case protoreflect.StringKind:
		v, err := referenceString(raw)
		into.Set(f, protoreflect.ValueOfString(v))
		return err
	case protoreflect.Uint64Kind:
		v, err := referenceNumber(raw)
		into.Set(f, protoreflect.ValueOfUint64(v))
		return err
	case protoreflect.BoolKind:
		if v := string(raw); v != "true" && v != "false" {
			return errReference
		}
		into.Set(f, protoreflect.ValueOfBool(string(raw) == "true"))
	case protoreflect.EnumKind:
		word, err := referenceString(raw)
		v := f.Enum().Values().ByName(protoreflect.Name(word))
		if err != nil || v == nil {
			return errReference
		}
		into.Set(f, protoreflect.ValueOfEnum(v.Number()))
	case protoreflect.BytesKind:
		return referenceBytes(raw, into, f)
	}
	return nil
}

func referenceBytes(raw []byte, into protoreflect.Message, f protoreflect.FieldDescriptor) error {
	if f.Name() != "bytes" {
		line := strings.NewReplacer("\n", "", "\r", "").Replace(string(raw))
		into.Set(f, protoreflect.ValueOfBytes([]byte(line)))
		return nil
	}
	text, err := referenceString(raw)
	if err != nil {
		return err
	}
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	v, err := base64.RawStdEncoding.DecodeString(text)
	into.Set(f, protoreflect.ValueOfBytes(v))
	return err
}

func referenceHeaders(raw []byte, into protoreflect.Map) error {
	ms, err := membersOf(raw)
	if err != nil {
		return err
	}
	for _, m := range ms {
		if isNull(m.value) {
			continue
		}
		v, err := referenceString(m.value)
		key := protoreflect.ValueOfString(m.key).MapKey()
		if err != nil || m.key == "" || into.Has(key) {
			return errReference
		}
		into.Set(key, protoreflect.ValueOfString(v))
	}
	return nil
}

// referenceCommand decodes one JSON frame, or says that it must be refused.
func referenceCommand(text []byte) (*pb.ClientFrame, error) {
	ms, err := membersOf(text)
	if err != nil {
		return nil, err
	}
	frame := &pb.ClientFrame{}
	var kind protoreflect.FieldDescriptor
	seenID := false
	for _, m := range ms {
		if m.key == "id" {
			if seenID {
				return nil, errReference
			}
			seenID = true
			if !isNull(m.value) {
				if frame.Id, err = referenceNumber(m.value); err != nil {
					return nil, err
				}
			}
			continue
		}
		if isNull(m.value) {
			continue
		}
		f := frame.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(m.key))
		if f == nil || kind != nil {
			return nil, errReference
		}
		kind = f
		if m.key == "ack" {
			inner, err := membersOf(m.value)
			if err != nil || !slices.ContainsFunc(inner, func(m member) bool { return m.key == "seq" && !isNull(m.value) }) {
				return nil, errReference
			}
		}
		if err := referenceObject(m.value, frame.ProtoReflect().Mutable(f).Message()); err != nil {
			return nil, err
		}
	}
	if kind == nil || !referenceSound(frame) {
		return nil, errReference
	}
	return frame, nil
}

func agentSound(name string) bool {
	return len(name) <= 128 && agentRule.MatchString(name) && !strings.HasSuffix(name, "\n")
}
func channelSound(name string) bool {
	return len(name) <= 128 && channelRule.MatchString(name) && !strings.HasSuffix(name, "\n")
}

// referenceSound applies the rules on values.
func referenceSound(frame *pb.ClientFrame) bool {
	switch k := frame.Kind.(type) {
	case *pb.ClientFrame_Send:
		return agentSound(k.Send.To) && len(k.Send.Key) <= 128
	case *pb.ClientFrame_Request:
		return agentSound(k.Request.To) && len(k.Request.Method) <= 128
	case *pb.ClientFrame_Publish:
		return channelSound(k.Publish.Channel) && len(k.Publish.Key) <= 128
	case *pb.ClientFrame_Subscribe:
		return channelSound(k.Subscribe.Channel) && len(k.Subscribe.GetSince().GetEpoch()) <= 64
	case *pb.ClientFrame_History:
		return channelSound(k.History.Channel) && len(k.History.GetSince().GetEpoch()) <= 64
	case *pb.ClientFrame_Unsubscribe:
		return channelSound(k.Unsubscribe.Channel)
	case *pb.ClientFrame_Cancel:
		return k.Cancel.Request > 0
	case *pb.ClientFrame_Reply:
		r := k.Reply
		code := regexp.MustCompile(`^[a-z0-9_.-]{1,64}$`).MatchString(r.GetError().GetCode()) && !strings.HasSuffix(r.GetError().GetCode(), "\n")
		return r.Request > 0 && (r.Error == nil || code && r.Payload == nil)
	case *pb.ClientFrame_Receipt:
		r := k.Receipt
		return r.Id != "" && len(r.Id) <= 64 && len(r.Note) <= 1024 && slices.Contains([]string{"surfaced", "done", "refused", "held"}, r.State)
	case *pb.ClientFrame_Presence:
		p := k.Presence
		return p.Agent == "" && channelSound(p.Channel) || p.Channel == "" && agentSound(p.Agent)
	case *pb.ClientFrame_Agents:
		a := k.Agents
		return (a.Match == "" || channelSound(strings.ReplaceAll(a.Match, "*", "a"))) && len(a.After) <= 256
	case *pb.ClientFrame_Profile:
		return slices.Contains([]string{"", "available", "busy", "away"}, k.Profile.State)
	case *pb.ClientFrame_Connect:
		c := k.Connect
		if c.Agent != "" && !agentSound(c.Agent) || len(c.GetClient().GetName()) > 128 || len(c.GetClient().GetVersion()) > 128 {
			return false
		}
		if c.Resume == nil {
			return true
		}
		for _, at := range c.Resume.Channels {
			if !channelSound(at.Channel) || len(at.Epoch) > 64 {
				return false
			}
		}
		return c.Resume.Session != "" && len(c.Resume.Session) <= 256
	}
	return true
}

// sameCommand compares; a client object that says nothing counts as none.
func sameCommand(a, b *pb.ClientFrame) bool {
	for _, f := range []*pb.ClientFrame{a, b} {
		if c := f.GetConnect(); c != nil && c.Client != nil && c.Client.Name == "" && c.Client.Version == "" {
			c.Client = nil
		}
	}
	return proto.Equal(a, b)
}
