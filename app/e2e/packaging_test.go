//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// packaged is a folder of packaging/.
func packaged(parts ...string) string {
	return filepath.Join(append([]string{"..", "..", "packaging"}, parts...)...)
}

// A unit is a unit file of systemd: for each section and key the values, in order.
type unit map[string][]string

// readUnit takes a unit file apart. It fails at a line that systemd would pass over
// with a warning.
func readUnit(t *testing.T, path string) unit {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	u, section := unit{}, ""
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		key, value, assigned := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case line[0] == '[' && line[len(line)-1] == ']':
			section = line[1 : len(line)-1]
		case !assigned || section == "" || key == "" || strings.TrimSpace(key) != key || strings.HasSuffix(line, `\`):
			t.Errorf("%s:%d: %q is no assignment in a section", path, i+1, line)
		default:
			u[section+"."+key] = append(u[section+"."+key], value)
		}
	}
	return u
}

// TestSystemdUnits: the units say what the program needs, run commands that it has,
// and systemd's own verification finds nothing in them.
func TestSystemdUnits(t *testing.T) {
	service := readUnit(t, packaged("systemd", "agentnet.service"))
	for key, want := range map[string]string{
		"Service.Type": "notify", "Service.User": "agentnet", "Service.WatchdogSec": "30", "Service.StateDirectory": "agentnet", "Service.StateDirectoryMode": "0700",
		"Service.LimitNOFILE": "262144", "Service.TimeoutStopSec": "45", "Service.UMask": "0077", "Service.NoNewPrivileges": "yes", "Service.ProtectSystem": "strict",
		"Service.EnvironmentFile": "-/etc/agentnet/agentnet.env", "Service.Restart": "on-failure", "Install.WantedBy": "multi-user.target",
		"Service.CapabilityBoundingSet": "CAP_NET_BIND_SERVICE", "Service.ExecStart": "/usr/local/bin/agentnet serve --config /etc/agentnet/agentnet.yaml",
	} {
		if got := service[key]; !slices.Equal(got, []string{want}) {
			t.Errorf("agentnet.service: %s: got %q, want %q", key, got, want)
		}
	}
	if got := service["Service.ExecReload"]; len(got) != 2 || !strings.Contains(got[0], " config check ") || got[1] != "/bin/kill -HUP $MAINPID" {
		t.Errorf("agentnet.service: ExecReload: got %q, want a check and then SIGHUP", got)
	}
	backup := readUnit(t, packaged("systemd", "agentnet-backup.service"))
	if got := backup["Service.ExecStart"]; len(got) != 1 || !strings.HasPrefix(got[0], "/usr/local/bin/agentnet backup --data /var/lib/agentnet ") {
		t.Errorf("agentnet-backup.service: got %q", got)
	}
	for _, file := range []string{"agentnet.sysusers", "agentnet.tmpfiles"} {
		text, err := os.ReadFile(packaged("systemd", file))
		if err != nil || !strings.Contains(string(text), "agentnet") {
			t.Errorf("%s: got %q, %v", file, text, err)
		}
	}

	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("systemd-analyze is not here: the units were read by this test alone")
		return
	}
	// The verification wants the program to be where the unit says.
	dir := t.TempDir()
	names := []string{"agentnet.service", "agentnet-backup.service", "agentnet-backup.timer"}
	for _, name := range names {
		text, err := os.ReadFile(packaged("systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		text = []byte(strings.ReplaceAll(string(text), "/usr/local/bin/agentnet", program(t).Path))
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{append([]string{"verify"}, names...), {"security", "--offline=true", "--no-pager", "--threshold=25", names[0]}, {"security", "--offline=true", "--no-pager", "--threshold=45", names[1]}} {
		cmd := exec.CommandContext(t.Context(), analyze, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestPackagedConfiguration: the example of a configuration starts a node whose data
// is where systemd says, and the variables of the other examples exist.
func TestPackagedConfiguration(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	example := packaged("systemd", "agentnet.yaml.example")
	if out, err := program(t, "config", "check", example).CombinedOutput(); err != nil {
		t.Errorf("config check: %v\n%s", err, out)
	}
	cmd := program(t, "serve", "--config", example, "--listen", "127.0.0.1:0")
	cmd.Env = append(cmd.Environ(), "STATE_DIRECTORY="+state)
	log := &tail{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	waitFor(20*time.Second, func() bool { _, err := os.Stat(filepath.Join(state, "node.json")); return err == nil },
		func() { t.Fatalf("the node does not run on the state directory:\n%s", log) })
	if out, err := program(t, "health", "--ready", "--quiet", "--data", state).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("the health check of the image: %v %s", err, out)
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("the node did not end well: %v\n%s", err, log)
	}

	doc, err := program(t, "config", "doc").Output()
	if err != nil {
		t.Fatal(err)
	}
	variable := regexp.MustCompile(`\bAGENTNET_[A-Z0-9_]+`)
	known := variable.FindAllString(string(doc), -1)
	for _, file := range []string{packaged("systemd", "agentnet.env.example"), packaged("docker", "Containerfile"), packaged("docker", "compose.yaml")} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := variable.FindAllString(string(text), -1)
		if len(found) == 0 {
			t.Errorf("%s names no variable", file)
		}
		for _, name := range found {
			if name != "AGENTNET_DATA" && name != "AGENTNET_REDIS_PASSWORD" && !slices.Contains(known, name) {
				t.Errorf("%s: there is no %s", file, name)
			}
		}
	}
	// What the image is built from is there, and it runs as nobody.
	text, _ := os.ReadFile(packaged("docker", "Containerfile"))
	for _, want := range []string{"FROM scratch", "USER 65532:65532", "scripts/build.sh", `CMD ["/agentnet", "health", "--ready", "--quiet"]`, "STOPSIGNAL SIGTERM"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the Containerfile lacks %q", want)
		}
	}
	if _, err := os.Stat(filepath.Join("..", "..", "scripts", "build.sh")); err != nil {
		t.Error(err)
	}
}
