// SPDX-License-Identifier: Apache-2.0

// Package api has, for every field of the kinds people write, values that are accepted and values that are refused, with
// the text that says why. The cases are in the folders beside this file, one for each kind:
//
//	base      an object that is accepted
//	cases     what is changed in it:
//	  path    the field; [] is the first element of a list
//	  accept  a value that is taken
//	  reject  a value that is not, and want, part of the error
//	  with    other fields that the values need, set before
//	  was     fields of the stored object, for a change of it: then accept and reject are updates
//
// A field of the schema without both an accepted and a refused value fails the test.
package api
