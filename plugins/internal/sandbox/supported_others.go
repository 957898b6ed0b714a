//go:build !linux

package sandbox

// Supported returns nil.
func Supported() error { return nil }
