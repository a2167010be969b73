package app

import "runtime/debug"

// Version is what the build calls itself: the module's version, or the commit that
// it was built from.
var Version = buildVersion()

func buildVersion() string {
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
