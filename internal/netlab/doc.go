// Package netlab builds networks for tests: Linux network namespaces joined by
// veth pairs, with real kernels routing, answering and stamping in them.
//
// Namespaces are anonymous and end with the test. Making them needs
// CAP_SYS_ADMIN and CAP_NET_ADMIN; without these, and on other systems, the
// tests that need a lab are skipped and say why.
package netlab
