package gateway

// Keep is for the tests outside of the package whose tables are documented.
var Keep = keep
