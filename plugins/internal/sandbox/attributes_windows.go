package sandbox

import "syscall"

const root = `C:\`

var attributes = &syscall.SysProcAttr{HideWindow: true}

func killGroup(int) {}
