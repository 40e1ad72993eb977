// SPDX-License-Identifier: Apache-2.0

// Package xdstest checks messages for Envoy as Envoy does before it uses them.
package xdstest

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// Validate checks the rules of every field of a message and of everything that is packed inside it. The error has every violation, each
// with its path, which begins with name.
func Validate(name string, m proto.Message) error {
	var errs []error
	if checked, ok := m.(interface{ ValidateAll() error }); ok {
		if err := checked.ValidateAll(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	return errors.Join(append(errs, unpack(name, m.ProtoReflect()))...)
}

// unpack looks for packed messages.
func unpack(path string, m protoreflect.Message) error {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		inner, err := packed.UnmarshalNew()
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return Validate(path+"/"+string(inner.ProtoReflect().Descriptor().Name()), inner)
	}
	var errs []error
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		at := path + "." + string(field.Name())
		switch {
		case field.IsMap() && field.MapValue().Message() != nil:
			value.Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
				errs = append(errs, unpack(at+"["+key.String()+"]", value.Message()))
				return true
			})
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				errs = append(errs, unpack(at, value.List().Get(i).Message()))
			}
		case !field.IsMap() && field.Message() != nil:
			errs = append(errs, unpack(at, value.Message()))
		}
		return true
	})
	return errors.Join(errs...)
}
