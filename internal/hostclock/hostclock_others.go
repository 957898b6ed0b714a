//go:build !linux

package hostclock

import (
	"errors"
	"fmt"
)

func acquire() (string, error) {
	return "", fmt.Errorf("name of the host's clock: %w", errors.ErrUnsupported)
}
