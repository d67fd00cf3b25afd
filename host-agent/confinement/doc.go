// Package confinement puts our AppArmor profiles (package apparmor) into a system and
// takes them out again, each whole or not at all, and says what really confines a
// process.
//
// Trust: root's files below /etc/apparmor.d and the kernel's word. What an admin has
// put there is never touched: a file counts as ours by its first line, and one that
// differs from this build's only with force. The kernel is asked what it has loaded;
// apparmor_parser's exit code alone is not believed.
package confinement
