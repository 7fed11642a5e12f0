// Follows the page's own links without loading it anew, and brings the reader back to the line that was left.
// Without this script every link still works, as a full load. It reads nothing but addresses and element ids.
(() => {
  if (window.sandtrailNavigates) return;
  window.sandtrailNavigates = true;
  const pane = () => document.querySelector('[data-testid="stMain"]');
  const PLACES = ".stHtml [id]";

  // What is to be shown arrives piece by piece and pushes what is there: hold the place until it has been steady for a
  // while, or the reader moves.
  let holding = 0;
  const hold = (find, from) => {
    const mine = ++holding;
    const until = Date.now() + 5000;
    let steady = 0;
    const again = () => {
      if (mine !== holding || Date.now() > until) return;
      const place = find();
      const off = place ? place.getBoundingClientRect().top - from(place) : 0;
      if (place && Math.abs(off) > 1) {
        const before = pane().scrollTop;
        pane().scrollTop += off;
        if (pane().scrollTop !== before) steady = 0;
      }
      if (place && ++steady > 60) return;
      requestAnimationFrame(again);
    };
    requestAnimationFrame(again);
  };
  for (const moved of ["wheel", "keydown", "pointerdown", "touchstart"]) {
    addEventListener(moved, () => holding++, { capture: true, passive: true });
  }

  const arrive = () => {
    setTimeout(() => document.querySelector("nav.navigator .here")?.scrollIntoView({ block: "nearest" }), 1200);
    const at = new URLSearchParams(location.search).has("at");
    const anchor = location.hash.slice(1);
    if (at) hold(() => document.querySelector(".row.here"), () => innerHeight / 2.5);
    else if (anchor) hold(() => document.getElementById(anchor), () => 8);
    return at || anchor;
  };

  addEventListener("click", (event) => {
    const link = event.target.closest?.(".stHtml a[href]");
    const plain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
    if (!link || !plain || link.origin !== location.origin) return;
    event.preventDefault();
    if (getSelection()?.type === "Range") return; // text was being marked, not a link followed
    const place = link.closest(PLACES);
    const left = place && { id: place.id, from: place.getBoundingClientRect().top };
    history.replaceState({ ...history.state, left }, "");
    const same = link.search === location.search && link.pathname === location.pathname;
    history.pushState({}, "", link.href);
    if (!same) dispatchEvent(new PopStateEvent("popstate", { state: { followed: true } }));
    if (!arrive() && !same) pane()?.scrollTo(0, 0);
  });
  addEventListener("popstate", (event) => {
    const left = event.state?.left;
    if (left) hold(() => document.getElementById(left.id), () => left.from);
    else if (!event.state?.followed && !arrive()) pane()?.scrollTo(0, 0);
  });
  arrive();
})();
