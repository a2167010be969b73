package dash

// defaultPages maps each page's path to what makes it.
func (b *Board) pages() map[string]func(*request) (*view, error) {
	return map[string]func(*request) (*view, error){
		"/":          b.overview,
		"/agents":    b.agents,
		"/channels":  b.channels,
		"/trends":    b.trends,
		"/log":       b.scalingLog,
		"/capacity":  b.capacity,
		"/alerts":    b.alerts,
		"/simulator": b.simulator,
		"/nodes":     b.nodes,
		"/broker":    b.broker,
		"/settings":  b.settings,
		"/privacy":   b.privacy,
		"/log/entry": b.logEntryPage,
		"/more":      b.more,
	}
}

func (b *Board) addActs(add func(method, path string, need Role, action string, handle func(*request) error)) {
	add("POST", "/first/away", Admin, "first.away", b.putAway)
	add("POST", "/agents/disconnect", Operator, "agent.disconnect", b.disconnect)
	add("POST", "/agents/trace", Operator, "agent.trace.begin", b.beginTrace)
	add("POST", "/agents/trace/end", Operator, "agent.trace.end", b.endTrace)
	add("POST", "/log/notes", Operator, "log.note", b.addNote)
	add("POST", "/nodes/drain", Operator, "node.drain", b.drain)
	add("POST", "/nodes/undrain", Operator, "node.undrain", b.undrain)
	add("POST", "/nodes/rebalance", Operator, "node.rebalance", b.rebalance)
	add("POST", "/capacity/answer", Operator, "advice.answer", b.answerAdvice)
	add("POST", "/capacity/apply", Operator, "advice.apply", b.applyAdvice)
	add("POST", "/alerts/ack", Operator, "alert.ack", b.acknowledge)
	add("POST", "/alerts/silence", Operator, "alert.silence", b.silence)
	add("POST", "/alerts/unsilence", Operator, "alert.unsilence", b.unsilence)
	add("POST", "/alerts/rules", Operator, "alert.rule.set", b.saveRule)
	add("POST", "/alerts/rules/able", Operator, "alert.rule.set", b.ableRule)
	add("POST", "/alerts/rules/drop", Operator, "alert.rule.drop", b.dropRule)
	add("POST", "/alerts/test", Operator, "notify.test", b.testChannel)
}

// more lists all pages, for phones.
func (b *Board) more(r *request) (*view, error) {
	n := b.notices()
	return &view{title: "More", body: morePage(b.nav(r, &n), r.who), plain: true}, nil
}
