// Keeps the numbers of a page up to date: asks for the page again and takes over
// the parts marked data-live. Text that is selected and parts that hold the focus
// stay as they are. Without this script the page reloads itself.
"use strict";
(() => {
  const every = 2000, patience = 5000;
  const pill = document.getElementById("live");
  let last = Date.now(), timer = 0, asking = false;

  const say = (state, text) => {
    if (!pill) return;
    pill.className = "live " + state;
    pill.lastElementChild.textContent = text;
    document.documentElement.toggleAttribute("data-stale", state === "none");
  };

  const busy = (part) => {
    const chosen = document.getSelection();
    return part.contains(document.activeElement) ||
      (chosen && !chosen.isCollapsed && chosen.containsNode(part, true));
  };

  const refresh = async () => {
    const answer = await fetch(location.href, {
      cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(patience),
    });
    if (!answer.ok) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(part.id);
      if (fresh && !busy(part) && fresh.outerHTML !== part.outerHTML) part.replaceWith(fresh);
    }
    document.title = page.title;
  };

  const tick = async () => {
    if (asking || document.hidden) return;
    asking = true;
    try {
      await refresh();
      last = Date.now();
      say("ok", "Live");
    } catch {
      const age = Math.round((Date.now() - last) / 1000);
      if (age < 10) say("info", "Reconnecting");
      else say("none", "Stale " + age + " s");
    }
    asking = false;
  };

  if (pill) pill.hidden = false;
  timer = setInterval(tick, every);
  document.addEventListener("visibilitychange", tick);
  addEventListener("pagehide", () => clearInterval(timer));
  addEventListener("pageshow", (e) => { if (e.persisted) timer = setInterval(tick, every); });
})();
