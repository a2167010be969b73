package app

import "runtime/debug"

// An Option alters what New makes, besides the configuration.
type Option func(*App)

// WithVersion says what the build calls itself. "" and "dev" leave it to what the
// toolchain wrote into the binary.
func WithVersion(version string) Option {
	return func(a *App) {
		if version != "" && version != "dev" {
			a.version = version
		}
	}
}

// BuildVersion is the module's version, or the commit that it was built from.
func BuildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	version := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 && (version == "" || version == "(devel)") {
			return "dev-" + s.Value[:12]
		}
	}
	if version == "" || version == "(devel)" {
		return "dev"
	}
	return version
}
