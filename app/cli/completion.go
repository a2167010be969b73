package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

// completionCommand is `agentnet completion`.
type completionCommand struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"${enum}."`
}

// Run prints the script. It is made from the commands themselves.
func (c *completionCommand) Run(env *Env, parsed *kong.Context) error {
	write := map[string]func(io.Writer, []entry) error{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[c.Shell]
	return write(env.Stdout, entries(parsed.Model.Node, ""))
}

// An entry is one place of the command line and what may follow it.
type entry struct {
	path     string // "", "token", "token create"
	commands [][2]string
	flags    [][2]string // with dashes
}

// entries lists all places below n.
func entries(n *kong.Node, path string) []entry {
	e := entry{path: path}
	var below []entry
	for _, child := range n.Children {
		if child.Hidden {
			continue
		}
		e.commands = append(e.commands, [2]string{child.Name, child.Help})
		below = append(below, entries(child, strings.TrimSpace(path+" "+child.Name))...)
	}
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			e.flags = append(e.flags, [2]string{"--" + f.Name, f.Help})
		}
	}
	return append([]entry{e}, below...)
}

func names(list [][2]string) string {
	words := make([]string, len(list))
	for i, w := range list {
		words[i] = w[0]
	}
	return strings.Join(words, " ")
}

const bashHead = `# bash completion for agentnet; put this into a file that bash reads:
#   agentnet completion bash > /etc/bash_completion.d/agentnet
_agentnet() {
  local word="${COMP_WORDS[COMP_CWORD]}" path="" i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$path ${COMP_WORDS[i]}" in
%s      *) ;;
    esac
  done
  case "$path" in
%s  esac
}
complete -o default -F _agentnet agentnet
`

func bashScript(w io.Writer, all []entry) error {
	var paths, words strings.Builder
	for _, e := range all {
		if e.path != "" {
			fmt.Fprintf(&paths, "      %q) path=%q ;;\n", " "+e.path, " "+e.path)
		}
		lead := e.path
		if lead != "" {
			lead = " " + lead
		}
		fmt.Fprintf(&words, "    %q) COMPREPLY=($(compgen -W %q -- \"$word\")) ;;\n", lead, names(e.commands)+" "+names(e.flags))
	}
	_, err := fmt.Fprintf(w, bashHead, paths.String(), words.String())
	return err
}

const zshHead = `#compdef agentnet
# zsh completion for agentnet; put this as _agentnet into a folder of $fpath.
_agentnet() {
  local path="" i
  for ((i = 2; i < CURRENT; i++)); do
    case "$path ${words[i]}" in
%s      *) ;;
    esac
  done
  local -a choices
  case "$path" in
%s  esac
  _describe agentnet choices
}
compdef _agentnet agentnet
`

func zshScript(w io.Writer, all []entry) error {
	var paths, words strings.Builder
	for _, e := range all {
		lead := e.path
		if lead != "" {
			lead = " " + lead
			fmt.Fprintf(&paths, "      %q) path=%q ;;\n", lead, lead)
		}
		fmt.Fprintf(&words, "    %q) choices=(", lead)
		for _, c := range append(e.commands, e.flags...) {
			fmt.Fprintf(&words, " %s", singleQuote(strings.ReplaceAll(c[0], ":", `\:`)+":"+firstSentence(c[1])))
		}
		words.WriteString(" ) ;;\n")
	}
	_, err := fmt.Fprintf(w, zshHead, paths.String(), words.String())
	return err
}

func fishScript(w io.Writer, all []entry) error {
	lines := []string{"# fish completion for agentnet: agentnet completion fish > ~/.config/fish/completions/agentnet.fish"}
	for _, e := range all {
		condition := "__fish_use_subcommand"
		if e.path != "" {
			var seen []string
			for word := range strings.FieldsSeq(e.path) {
				seen = append(seen, "__fish_seen_subcommand_from "+word)
			}
			condition = strings.Join(seen, "; and ")
		}
		for _, c := range e.commands {
			lines = append(lines, fmt.Sprintf("complete -c agentnet -n %s -f -a %s -d %s", singleQuote(condition), c[0], singleQuote(firstSentence(c[1]))))
		}
		for _, f := range e.flags {
			lines = append(lines, fmt.Sprintf("complete -c agentnet -n %s -l %s -d %s", singleQuote(condition), strings.TrimPrefix(f[0], "--"), singleQuote(firstSentence(f[1]))))
		}
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}

func firstSentence(text string) string {
	first, _, _ := strings.Cut(text, ". ")
	return strings.TrimSuffix(first, ".")
}

func singleQuote(text string) string { return "'" + strings.ReplaceAll(text, "'", "") + "'" }
