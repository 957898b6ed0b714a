package plugins

// HandshakeConfig is for plugins of the tests that use go-plugin by themselves.
var HandshakeConfig = handshakeConfig

// ServiceName is what they have to serve.
const ServiceName = serviceName

// Certificate is for hosts of the tests.
var Certificate = certificate
