// Keeps a page honest and quiet: says how fresh its numbers are, lets nothing be
// swapped away under somebody's hand, closes the stream while nobody looks, and
// knows a few keys. The stream itself is read by htmx and its extension. Without
// any of it a page reloads itself.
"use strict";
(() => {
  const root = document.documentElement, pill = document.getElementById("live");
  let last = Date.now(), source = null;

  const say = (state, text) => {
    if (!pill) return;
    pill.className = "live " + state;
    const label = pill.lastElementChild;
    if (label.textContent !== text) label.textContent = text;
    root.toggleAttribute("data-stale", state === "none");
  };

  // The time zone goes to the server, which writes all times.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const scope = root.dataset.base + "/";
  if (zone && !document.cookie.includes("agentnet_zone=" + encodeURIComponent(zone))) {
    document.cookie = "agentnet_zone=" + encodeURIComponent(zone) + ";path=" + scope + ";max-age=31536000;samesite=lax";
  }

  // One stream a tab. It is closed while the tab is hidden, because a browser opens
  // only six connections to a server that does not speak HTTP/2.
  // The page may have been made before the server knew the zone.
  window.htmx && (htmx.createEventSource = (url) => {
    const here = new URL(url, location.href);
    if (zone) here.searchParams.set("zone", zone);
    source = new EventSource(here);
    for (const name of ["tick", "title"]) source.addEventListener(name, (e) => {
      last = Date.now();
      if (name === "title" && document.title !== e.data) document.title = e.data;
      // The dot beats with what comes, once a second: an animation would have the
      // browser make sixty pictures a second for as long as the page is open.
      if (name === "tick" && pill) pill.firstElementChild.classList.toggle("off");
      say("ok", "Live · 1 s");
    });
    source.addEventListener("bye", () => source.close());
    return source;
  });

  const age = () => {
    if (!source || document.hidden) return;
    const seconds = Math.round((Date.now() - last) / 1000);
    if (seconds >= 10) say("none", "Stale " + seconds + " s");
    else if (seconds >= 3) say("info", "Reconnecting");
  };
  const timer = setInterval(age, 1000);

  const reopen = () => {
    if (source && source.readyState === EventSource.CLOSED && source.onerror) source.onerror(new Event("error"));
  };
  let away = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(away);
    if (document.hidden) away = setTimeout(() => source && source.close(), 5000);
    else reopen();
  });
  setInterval(() => { if (!document.hidden && Date.now() - last > 15000) reopen(); }, 15000);
  addEventListener("pagehide", () => { clearInterval(timer); source && source.close(); });
  addEventListener("pageshow", (e) => { if (e.persisted) location.reload(); });

  // What holds the focus, a selection or an open list of rows stays as it is.
  document.addEventListener("htmx:sseBeforeMessage", (e) => {
    const part = e.target, chosen = document.getSelection();
    if (part.contains(document.activeElement) || part.querySelector("details[open]") ||
      (chosen && !chosen.isCollapsed && chosen.containsNode(part, true))) e.preventDefault();
  });

  // Forms that ask once more, dialogs and keys.
  // What the stream brought is the same for all who watch, so that its forms lack
  // the word by which the server knows ours; the page itself has it.
  const word = document.querySelector("meta[name=agentnet-form]");
  document.addEventListener("submit", (e) => {
    const ask = e.submitter?.dataset.ask ?? e.target.dataset.ask, field = e.target.querySelector("input[name=form]");
    if (ask && !confirm(ask)) e.preventDefault();
    else if (field && word && !field.value) field.value = word.content;
  });
  document.addEventListener("input", (e) => {
    const shown = e.target.dataset.shows && document.getElementById(e.target.dataset.shows);
    if (shown) shown.textContent = "× " + (+e.target.value).toFixed(1);
  });
  const places = { o: "", t: "trends", c: "capacity", l: "log", a: "agents", h: "channels", n: "nodes", r: "alerts", s: "settings" };
  let going = 0;
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.closest("input,select,textarea")) return;
    if (e.key === "/") {
      const find = document.querySelector(".find input");
      if (find) { find.focus(); e.preventDefault(); }
    } else if (e.key === "g") going = Date.now();
    else if (Date.now() - going < 1500 && e.key in places) location.assign(scope + places[e.key]);
    else if (e.key === "d") document.querySelector(".theme button")?.click();
  });
})();
