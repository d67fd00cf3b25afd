package device

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctl asks the kernel with a number.
func ioctl(fd int, request, value uintptr) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, value)
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// ioctlBytes asks the kernel with a structure, which it may fill in. The caller
// made it as long as the request says.
func ioctlBytes(fd int, request uintptr, b []byte) (int, error) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(unsafe.SliceData(b))))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
