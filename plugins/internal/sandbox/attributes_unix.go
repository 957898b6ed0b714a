//go:build unix && !linux

package sandbox

import "syscall"

const root = "/"

var attributes = &syscall.SysProcAttr{Setsid: true}

func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }
