// What the reader does: pointer, keys, filters, search.

const byId = (name) => document.getElementById(name);

function told(what) {
  if (what === "focus") {
    byId("which").textContent = `${view.focus + 1} of ${run.focuses.length}`;
    const focus = run.focuses[view.focus];
    byId("sentence").textContent = `${focus.promise}: ${focus.text}`;
    fillRun();
    showTab("run");
  }
}

/** Selects a message or a moment. */
function pick(what, goThere = false) {
  view.picked = what;
  if (what && goThere) {
    const n = what.moment;
    if (n !== undefined) bring(moments.at[n], moments.lane[n], Math.min(view.span, 400000));
    else bring(messages.sent[what.message], messages.from[what.message]);
  }
  fillPicked();
  if (what) showTab("picked");
  redraw();
}

/** What is nearest to a place of the plot, if it is near. */
function under(px, py) {
  let best = null,
    nearest = 11;
  for (const n of view.drawn.moments) {
    const far = Math.hypot(x(moments.at[n]) - px, laneY(moments.lane[n]) - py);
    // A mark is the smaller thing: of two that are near it is meant.
    if (far < nearest) [best, nearest] = [{ moment: n }, far];
  }
  if (best) return best;
  nearest = 7;
  for (const n of view.drawn.messages) {
    const [x0, y0, x1, y1] = line(n);
    const [dx, dy] = [x1 - x0, y1 - y0];
    const along = Math.min(Math.max(((px - x0) * dx + (py - y0) * dy) / (dx * dx + dy * dy || 1), 0), 1);
    const far = Math.hypot(x0 + along * dx - px, y0 + along * dy - py);
    if (far < nearest) [best, nearest] = [{ message: n }, far];
  }
  return best;
}

function follow(text) {
  byId("search").value = text;
  search();
}

function search() {
  const text = byId("search").value.trim();
  view.sends = view.texts = null;
  let found = "";
  if (text) {
    const sends = run.sends
      .map((send, n) => [send, n])
      .filter(([send]) => send === text || send.startsWith(`${text}.`));
    if (sends.length) {
      view.sends = new Set(sends.map(([, n]) => n));
      const count = new Set(sends.flatMap(([, n]) => messages.bySend[n])).size;
      found = `${count} messages`;
      if (sends.length === 1) goToSend(sends[0][1]);
    } else {
      const wanted = text.toLowerCase();
      view.texts = new Set();
      run.texts.forEach((one, n) => one.toLowerCase().includes(wanted) && view.texts.add(n));
      let count = 0;
      for (let n = 0; n < messages.count; n++) if (view.texts.has(messages.text[n])) count++;
      found = `${count} messages`;
    }
  }
  byId("found").textContent = found;
  refilter();
}

/** Shows a send's whole way, if it is short enough to be legible. */
function goToSend(send) {
  const times = [
    ...moments.bySend[send].map((n) => moments.at[n]),
    ...messages.bySend[send].map((n) => messages.sent[n]),
  ];
  if (times.length === 0) return;
  const first = times.reduce((one, other) => Math.min(one, other));
  const last = times.reduce((one, other) => Math.max(one, other));
  const length = Math.min(Math.max((last - first) * 1.25, 60000), 3e6);
  look(first - length * 0.1, length);
}

function clear() {
  byId("search").value = "";
  view.hosts.clear();
  for (const lane of byId("lanes").children) lane.setAttribute("aria-pressed", "false");
  search();
  pick(null);
}

/** The next thing that was seen on the selected host. */
function step(by) {
  const picked = view.picked;
  const lane =
    picked?.moment !== undefined
      ? moments.lane[picked.moment]
      : picked?.message !== undefined
        ? messages.from[picked.message]
        : ([...view.hosts][0] ?? 0);
  const of = moments.byLane[lane] ?? [];
  let at =
    picked?.moment !== undefined
      ? of.indexOf(picked.moment) + by
      : of.findIndex((n) => moments.at[n] >= (picked ? messages.sent[picked.message] : view.from)) +
        (by < 0 ? by : 0);
  at = Math.min(Math.max(at, 0), of.length - 1);
  if (of.length) pick({ moment: of[at] }, true);
}

function tip(what, px, py) {
  const box = byId("tip");
  if (!what) return void (box.style.opacity = 0);
  const n = what.message;
  const [title, small] =
    n !== undefined
      ? [
          run.texts[messages.text[n]],
          `${laneName(messages.from[n])} → ${laneName(messages.to[n])}, ${
            messages.took[n] >= 0 ? span(messages.took[n]) : "never read"
          }`,
        ]
      : [
          `${laneName(moments.lane[what.moment])} ${run.texts[moments.text[what.moment]]}`,
          `${seconds(moments.at[what.moment])} s`,
        ];
  box.replaceChildren(title, make("small", {}, small));
  const gutter = plot.offsetLeft;
  const left = Math.min(px + gutter + 14, gutter + view.width - box.offsetWidth - 6);
  const top = py + 18 + box.offsetHeight > view.height ? py - box.offsetHeight - 12 : py + 18;
  box.style.transform = `translate(${Math.max(left, 4)}px, ${Math.max(top, 2)}px)`;
  box.style.opacity = 1;
}

const place = (event) => {
  const box = plot.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};

function listenToPlot() {
  const fingers = new Map();
  let moved = 0,
    pinch = 0;
  const gap = () => {
    const [one, two] = [...fingers.values()];
    return Math.max(Math.hypot(one[0] - two[0], one[1] - two[1]), 10);
  };
  plot.addEventListener("pointerdown", (event) => {
    if (event.isTrusted) plot.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, place(event));
    moved = fingers.size > 1 ? 99 : 0;
    if (fingers.size === 2) pinch = gap();
  });
  plot.addEventListener("pointermove", (event) => {
    const at = place(event);
    const before = fingers.get(event.pointerId);
    if (!before) {
      const what = under(...at);
      if (JSON.stringify(what) !== JSON.stringify(view.hover)) {
        view.hover = what;
        redraw();
      }
      return tip(what, ...at);
    }
    fingers.set(event.pointerId, at);
    if (fingers.size === 2) {
      const now = gap();
      const [one, two] = [...fingers.values()];
      zoom(pinch / now, (one[0] + two[0]) / 2);
      pinch = now;
      return;
    }
    const [dx, dy] = [at[0] - before[0], at[1] - before[1]];
    moved += Math.abs(dx) + Math.abs(dy);
    if (moved > 4) {
      plot.classList.add("dragged");
      tip(null);
      look(view.from - (dx / view.width) * view.span, view.span);
      scrollBy(-dy);
    }
  });
  const up = (event) => {
    const wasDown = fingers.delete(event.pointerId);
    plot.classList.remove("dragged");
    if (wasDown && event.type === "pointerup" && moved <= 4) pick(under(...place(event)));
  };
  plot.addEventListener("pointerup", up);
  plot.addEventListener("pointercancel", up);
  plot.addEventListener("pointerleave", () => {
    view.hover = null;
    tip(null);
    redraw();
  });
  plot.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const unit = event.deltaMode === 1 ? 16 : 1;
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        const by = (event.deltaX || event.deltaY) * unit;
        return look(view.from + (by / view.width) * view.span, view.span);
      }
      zoom(Math.exp(Math.min(Math.max(event.deltaY * unit, -200), 200) * 0.0022), place(event)[0]);
    },
    { passive: false },
  );
  plot.addEventListener("dblclick", (event) => zoom(0.4, place(event)[0]));
}

function listenToOverview() {
  const go = (event) => {
    const box = overview.getBoundingClientRect();
    look(((event.clientX - box.left) / box.width) * run.end - view.span / 2, view.span);
  };
  overview.addEventListener("pointerdown", (event) => {
    if (event.isTrusted) overview.setPointerCapture(event.pointerId);
    if (view.span > run.end * 0.9) look(view.from, run.end / 8);
    go(event);
  });
  overview.addEventListener("pointermove", (event) => event.buttons && go(event));
}

function listenToKeys() {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isTyping = event.target.tagName === "INPUT";
    if (event.key === "Escape") return isTyping && byId("search").value === "" ? plot.focus() : clear();
    if (isTyping) return;
    const onTab = event.target.getAttribute("role") === "tab";
    const onPlot = event.target === plot || event.target === overview;
    const move = (by) => () => look(view.from + by * view.span, view.span);
    const keys = {
      "+": () => zoom(0.6),
      "=": () => zoom(0.6),
      "-": () => zoom(1 / 0.6),
      0: () => look(0, run.end * 1.02),
      n: () => step(1),
      p: () => step(-1),
      v: () => showFocus(view.focus + 1),
      "/": () => byId("search").focus(),
      ...(onPlot && {
        ArrowLeft: move(-0.15),
        ArrowRight: move(0.15),
        PageUp: move(-0.9),
        PageDown: move(0.9),
        Home: () => look(0, view.span),
        End: () => look(run.end - view.span, view.span),
        ArrowUp: () => scrollBy(-view.lane),
        ArrowDown: () => scrollBy(view.lane),
      }),
      ...(onTab && { ArrowLeft: () => nextTab(event.target, -1), ArrowRight: () => nextTab(event.target, 1) }),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
}

function nextTab(tab, by) {
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  const next = tabs[(tabs.indexOf(tab) + by + tabs.length) % tabs.length];
  showTab(next.id.slice(4));
  next.focus();
}

function fillToolbar() {
  const counts = run.sorts.map(() => 0);
  for (let n = 0; n < messages.count; n++) counts[messages.sort[n]]++;
  for (const [sort, name] of run.sorts.entries()) {
    if (!counts[sort]) continue;
    const chip = make(
      "button",
      {
        type: "button",
        class: "chip",
        "aria-pressed": String(view.sorts[sort]),
        onclick: () => {
          view.sorts[sort] = !view.sorts[sort];
          chip.setAttribute("aria-pressed", String(view.sorts[sort]));
          refilter();
        },
      },
      make("span", {}, name),
      make("span", { class: "count" }, counts[sort].toLocaleString("en")),
    );
    byId("sorts").append(chip);
  }
  for (const [lane, [name, isServer]] of run.lanes.entries()) {
    const button = make(
      "button",
      {
        type: "button",
        class: `lane${isServer ? " server" : ""}`,
        style: own(lane),
        title: name,
        "aria-pressed": "false",
        onclick: () => {
          if (!view.hosts.delete(lane)) view.hosts.add(lane);
          button.setAttribute("aria-pressed", String(view.hosts.has(lane)));
          refilter();
        },
      },
      make("span", {}, name),
      make("i", {}),
    );
    byId("lanes").append(button);
  }
  for (const focus of run.focuses) {
    for (const send of focus.sends.slice(0, 3)) byId("sends").append(make("option", { value: run.sends[send] }));
  }
  byId("search").addEventListener("input", search);
  byId("in").addEventListener("click", () => zoom(0.6));
  byId("out").addEventListener("click", () => zoom(1 / 0.6));
  byId("all").addEventListener("click", () => look(0, run.end * 1.02));
  byId("previous").addEventListener("click", () => showFocus(view.focus - 1));
  byId("next").addEventListener("click", () => showFocus(view.focus + 1));
  for (const tab of document.querySelectorAll('[role="tab"]')) {
    tab.addEventListener("click", () => showTab(tab.id.slice(4)));
  }
}

function start() {
  const failed = run.verdict !== "passed";
  document.body.classList.toggle("failed", failed);
  byId("verdict").textContent = failed ? run.verdict : "passed";
  byId("facts").textContent =
    `${seconds(run.end, 1)} s simulated · ${run.events.toLocaleString("en")} events · trace ${run.hash}`;
  byId("sentence").textContent = failed ? run.sentence : "Every promise was kept.";
  byId("steps").hidden = run.focuses.length < 2;
  fillToolbar();
  readColors();
  refilter();
  fillRun();
  fillPicked();
  fillPlan();
  listenToPlot();
  listenToOverview();
  listenToKeys();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColors();
    redraw();
  });
  new ResizeObserver(resize).observe(byId("diagram"));
  resize();
  showFocus(0);
  drawAll();
}

/** With `#selfcheck` the page looks at itself and writes down what it sees: for tests. */
async function selfcheck() {
  const seen = { verdict: byId("verdict").textContent, focuses: run.focuses.length };
  const last = view.focus < 0 ? undefined : focusMoment();
  if (last !== undefined) {
    const [px, py] = [x(moments.at[last]), laneY(moments.lane[last])];
    const box = plot.getBoundingClientRect();
    const dense = plot.width / view.width;
    // The ring around the moment is drawn in the colour of danger.
    const pixel = paint.getImageData((px - 13) * dense, py * dense, 1, 1).data;
    seen.violation = {
      sentence: byId("sentence").textContent,
      isInPlot: px >= 0 && px <= view.width && py >= view.axis && py <= view.height,
      isInWindow: box.top >= 0 && box.left + px <= innerWidth && box.top + py <= innerHeight,
      isMarked: pixel[3] > 150 && pixel[0] > pixel[1] + 60 && pixel[0] > pixel[2] + 60,
    };
  }
  if (view.dense && messages.count) {
    look(messages.sent[messages.count >> 1] - 20000, 60000);
    drawAll();
  }
  // A click on the middle of a message that is drawn, where no mark is nearer.
  const middle = (n) => {
    const [x0, y0, x1, y1] = line(n);
    return [(x0 + x1) / 2, (y0 + y1) / 2];
  };
  const free = (n) => {
    const at = middle(n);
    return at[0] > 0 && at[0] < view.width && at[1] > view.axis && at[1] < view.height && under(...at)?.message === n;
  };
  const target = view.drawn.messages.find(free);
  if (target !== undefined) {
    const box = plot.getBoundingClientRect();
    const [px, py] = middle(target);
    const event = { clientX: box.left + px, clientY: box.top + py, pointerId: 7, bubbles: true };
    plot.dispatchEvent(new PointerEvent("pointerdown", event));
    plot.dispatchEvent(new PointerEvent("pointerup", event));
    const ready = () => pane("picked").querySelector("pre mark");
    for (let tries = 0; tries < 200 && !ready(); tries++) await new Promise((next) => setTimeout(next, 10));
    const shown = pane("picked");
    seen.click = {
      isVisible: !shown.hidden && shown.getBoundingClientRect().height > 50,
      content: shown.querySelector("h2").textContent,
      expected: run.texts[messages.text[target]],
      line: ready()?.textContent ?? "",
    };
  }
  seen.problems = problems;
  document.body.append(make("pre", { id: "seen", hidden: "" }, JSON.stringify(seen)));
}

start();
if (location.hash === "#selfcheck") selfcheck();
