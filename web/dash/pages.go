package dash

// defaultPages maps each page's path to what makes it.
func (b *Board) pages() map[string]func(*request) (*view, error) {
	return map[string]func(*request) (*view, error){
		"/":         b.overview,
		"/agents":   b.agents,
		"/channels": b.channels,
		"/more":     b.more,
	}
}

func (b *Board) addActs(add func(method, path string, need Role, action string, handle func(*request) error)) {
	add("POST", "/agents/disconnect", Operator, "agent.disconnect", b.disconnect)
}

// more lists all pages, for phones.
func (b *Board) more(r *request) (*view, error) {
	n := b.notices()
	return &view{title: "More", body: morePage(b.nav(r, &n), r.who), plain: true}, nil
}
