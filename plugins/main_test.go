package plugins_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// The test binary is also the plugins of the tests, and hosts that are killed.
func TestMain(m *testing.M) {
	if mode := os.Getenv("MODE"); mode != "" {
		roles[mode]()
		return
	}
	goleak.VerifyTestMain(m)
}
