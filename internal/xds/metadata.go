package xds

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// metadataKey is where our facts lie in Envoy's metadata.
const metadataKey = "serin.dev"

// fields are facts that Envoy's messages have no field for.
type fields map[string]*structpb.Value

func (f fields) setText(key, value string) {
	if value != "" {
		f[key] = structpb.NewStringValue(value)
	}
}

func (f fields) setNumber(key string, value uint32) {
	if value != 0 {
		f[key] = structpb.NewNumberValue(float64(value))
	}
}

func (f fields) setTrue(key string, value bool) {
	if value {
		f[key] = structpb.NewBoolValue(true)
	}
}

func (f fields) setFields(key string, value fields) {
	if len(value) > 0 {
		f[key] = structpb.NewStructValue(&structpb.Struct{Fields: value})
	}
}

func (f fields) setTexts(key string, values map[string]string) {
	inner := fields{}
	for k, v := range values {
		inner[k] = structpb.NewStringValue(v)
	}
	f.setFields(key, inner)
}

func (f fields) text(key string) string { return f[key].GetStringValue() }
func (f fields) isTrue(key string) bool { return f[key].GetBoolValue() }
func (f fields) fields(key string) fields {
	return f[key].GetStructValue().GetFields()
}

// number returns the value of a whole number up to max, which bounds what a
// conversion of hostile input could make of it.
func (f fields) number(key string, max uint32) (uint32, error) {
	n := f[key].GetNumberValue()
	if !(n >= 0 && n <= float64(max)) || n != float64(uint32(n)) {
		return 0, fmt.Errorf("%s: %v is not a whole number up to %d", key, n, max)
	}
	return uint32(n), nil
}

// texts returns a map of strings, nil when there is none.
func (f fields) texts(key string) map[string]string {
	inner := f.fields(key)
	if len(inner) == 0 {
		return nil
	}
	out := make(map[string]string, len(inner))
	for k, v := range inner {
		out[k] = v.GetStringValue()
	}
	return out
}

// metadata makes Envoy's form, nil when there is nothing to say.
func (f fields) metadata() *corev3.Metadata {
	if len(f) == 0 {
		return nil
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{metadataKey: {Fields: f}}}
}

// fieldsOf returns our facts in a message's metadata.
func fieldsOf(m *corev3.Metadata) fields {
	return m.GetFilterMetadata()[metadataKey].GetFields()
}

// attach puts a whole message into metadata, for what Envoy knows in another
// place than the one where it belongs.
func attach(m *corev3.Metadata, key string, message proto.Message) (*corev3.Metadata, error) {
	packed, err := pack(message)
	if err != nil {
		return nil, err
	}
	if m == nil {
		m = &corev3.Metadata{}
	}
	if m.TypedFilterMetadata == nil {
		m.TypedFilterMetadata = map[string]*anypb.Any{}
	}
	m.TypedFilterMetadata[metadataKey+"/"+key] = packed
	return m, nil
}

// attached reads into message what attach put there; false when nothing is.
func attached(m *corev3.Metadata, key string, message proto.Message) (bool, error) {
	packed := m.GetTypedFilterMetadata()[metadataKey+"/"+key]
	if packed == nil {
		return false, nil
	}
	return true, unpack(packed, message)
}

// pack wraps a message. Unlike anypb.New it makes the same bytes of the same
// message every time, so that what did not change is not sent again.
func pack(message proto.Message) (*anypb.Any, error) {
	body, err := marshal(message)
	if err != nil {
		return nil, err
	}
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(message.ProtoReflect().Descriptor().FullName()), Value: body}, nil
}

// marshal makes the same bytes of the same message.
func marshal(message proto.Message) ([]byte, error) {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", message.ProtoReflect().Descriptor().Name(), err)
	}
	return body, nil
}

func unpack(packed *anypb.Any, message proto.Message) error {
	if !packed.MessageIs(message) {
		return fmt.Errorf("is a %q, not a %s", packed.GetTypeUrl(), message.ProtoReflect().Descriptor().FullName())
	}
	if err := proto.Unmarshal(packed.GetValue(), message); err != nil {
		return fmt.Errorf("%s: %w", message.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}
