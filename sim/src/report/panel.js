// What stands in words: the run, what was selected, the plan.

/** An element with attributes and children; texts are never taken for markup. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "onclick") element.addEventListener("click", value);
    else if (key === "style") element.style.cssText = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const pane = (name) => document.getElementById(`${name}-pane`);
const own = (lane) => (lane < 0 ? "" : `--own: ${run.lanes[lane][1] ? `var(--server${lane % 7})` : "var(--client)"}`);

function showTab(name) {
  for (const tab of document.querySelectorAll('[role="tab"]')) {
    const chosen = tab.id === `tab-${name}`;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    document.getElementById(tab.getAttribute("aria-controls")).hidden = !chosen;
  }
}

/** A list of moments, each of which can be gone to. */
function listOf(places, most) {
  const list = make("ol", { class: "list" });
  for (const n of places.slice(0, most)) {
    const lane = moments.lane[n];
    const name = run.kinds[moments.kind[n]];
    const text = run.texts[moments.text[n]];
    const said = name.startsWith("fault") ? `${name}: ${text}` : text;
    list.append(
      make(
        "li",
        {},
        make(
          "button",
          { type: "button", onclick: () => pick({ moment: n }, true) },
          make("time", {}, seconds(moments.at[n])),
          make("b", { style: own(lane) }, laneName(lane)),
          make("span", {}, said),
        ),
      ),
    );
  }
  if (places.length > most) list.append(make("li", { class: "quiet" }, `and ${places.length - most} more`));
  return list;
}

function facts(rows) {
  const list = make("dl", { class: "facts" });
  for (const [name, value] of rows) if (value !== null) list.append(make("dt", {}, name), make("dd", {}, value));
  return list;
}

function fillRun() {
  const target = pane("run");
  target.replaceChildren();
  const focus = run.focuses[view.focus];
  if (focus) {
    target.append(make("div", { class: "card" }, make("h2", {}, focus.promise), make("p", {}, focus.text)));
    target.append(make("h3", {}, "What it speaks of"), listOf(focus.moments, 60));
    if (focus.sends.length) {
      target.append(make("div", { class: "row" }, ...focus.sends.slice(0, 4).map(followButton)));
    }
  }
  const chapters = [];
  // That everybody starts at the beginning is no news.
  const isNews = (n) => CHAPTERS.has(moments.kind[n]) && !(moments.kind[n] === KIND.start && moments.at[n] === 0);
  for (let n = 0; n < moments.count; n++) if (isNews(n)) chapters.push(n);
  target.append(make("h3", {}, "What happened"), listOf(chapters, 250));
  target.append(make("h3", {}, "Signs"), legend());
  target.append(make("h3", {}, "The run again"), command());
  target.append(
    facts([
      ["Trace", run.hash],
      ["Events", run.events.toLocaleString("en")],
      ["Messages", messages.count.toLocaleString("en")],
      ["Simulated", `${seconds(run.end)} s`],
      ["Not shown here", run.left_out.length ? run.left_out.join("; ") : "nothing was left out"],
    ]),
  );
}

function command() {
  const button = make(
    "button",
    {
      type: "button",
      class: "small",
      onclick: async () => {
        try {
          await navigator.clipboard.writeText(run.command);
          button.textContent = "Copied";
        } catch {
          getSelection().selectAllChildren(text);
          button.textContent = "Selected";
        }
      },
    },
    "Copy",
  );
  const text = make("pre", { class: "wrap" }, run.command);
  return make("div", { class: "command" }, text, button);
}

function legend() {
  const sign = (inner, text) => {
    const box = make("span", {});
    // The only markup that is made of a text: these lines.
    box.innerHTML = `<svg viewBox="0 0 34 16" aria-hidden="true">${inner}</svg>`;
    return [box.firstChild, make("span", {}, text)];
  };
  const client = 'fill="var(--client)" stroke="var(--client)"';
  const arrow =
    '<path d="M2 3 L28 13" stroke="var(--server0)" fill="none"/><path d="M30 14 l-7 0 l3 -5z" fill="var(--server0)"/>';
  return make(
    "div",
    { class: "legend" },
    ...sign(arrow, "a message, in its sender's colour"),
    ...sign(
      '<path d="M2 3 L18 9" stroke="var(--server0)"/><path d="M15 6 l7 7 m-7 0 l7 -7" stroke="var(--fault)" stroke-width="1.6"/>',
      "one that was never read",
    ),
    ...sign('<rect x="0" y="4" width="34" height="8" fill="var(--server0)"/>', "a leader; thin: who follows it"),
    ...sign(
      '<path d="M17 1 l7 7 l-7 7 l-7 -7z" fill="var(--server0)"/>',
      "begins to lead; hollow: stands for election",
    ),
    ...sign(
      `<path d="M5 12 l4 -8 l4 8z" fill="none" stroke="var(--client)"/><path d="M20 12 l4 -8 l4 8z" ${client}/>`,
      "a send, and its receipt",
    ),
    ...sign(
      `<path d="M5 4 l4 8 l4 -8z" ${client}/><path d="M24 3 v10" ${client} stroke-width="1.6"/>`,
      "a delivery, and its acknowledgement",
    ),
    ...sign(
      `<circle cx="9" cy="8" r="3.4" ${client}/><circle cx="24" cy="8" r="3.4" fill="none" stroke="var(--client)"/>`,
      "reads an inbox; changes its server",
    ),
    ...sign(
      '<rect width="34" height="16" fill="var(--fault)" opacity=".16"/><path d="M.5 0 v16" stroke="var(--fault)"/>',
      "a fault of the plan",
    ),
    ...sign(
      '<path d="M1 8 h32" stroke="var(--soft)" stroke-dasharray="1 4"/>',
      "no process; dashes: it stands still",
    ),
    ...(run.focuses.length
      ? sign(
          '<circle cx="17" cy="8" r="6.5" fill="none" stroke="var(--danger)" stroke-width="2"/>',
          "what the verdict speaks of",
        )
      : []),
  );
}

function followButton(send) {
  return make(
    "button",
    { type: "button", class: "small", onclick: () => follow(run.sends[send]) },
    `Follow ${run.sends[send]}`,
  );
}

/** Faults that were on while something was under way. */
function faultsDuring(from, to, lanes) {
  const on = run.faults.filter(
    ([began, ended, , , of]) => began <= to && ended >= from && of.some((lane) => lanes.includes(lane)),
  );
  return on.length ? on.map((fault) => fault[3]).join("; ") : null;
}

let shownFor = 0;

async function fillPicked() {
  const target = pane("picked");
  const turn = ++shownFor;
  if (!view.picked) {
    target.replaceChildren(
      make(
        "p",
        { class: "quiet" },
        "Click a message or a mark to see what it says and its lines of the trace. Following a send shows its whole way.",
      ),
    );
    return;
  }
  const ordinals = [];
  if (view.picked.message !== undefined) {
    const n = view.picked.message;
    const [from, to] = [messages.from[n], messages.to[n]];
    const sent = messages.sent[n],
      took = messages.took[n];
    const fate =
      took >= 0 ? `${seconds(sent + took)} s, after ${span(took)}` : took === -1 ? "never" : "the run ended before";
    target.replaceChildren(
      make("h2", {}, run.texts[messages.text[n]]),
      facts([
        ["From", laneName(from)],
        ["To", laneName(to)],
        ["Sent", `${seconds(sent)} s`],
        ["Read", fate],
        ["Kind", run.sorts[messages.sort[n]]],
        ["Length", `${messages.bytes[n]} bytes, at ${messages.offset[n]}`],
        ["Connection", run.texts[messages.wire[n]]],
        ["Faults then", faultsDuring(sent, endOf(n), [from, to])],
      ]),
    );
    if (messages.sends[n].length) {
      target.append(make("div", { class: "row" }, ...messages.sends[n].slice(0, 8).map(followButton)));
    }
    ordinals.push(["Written", messages.written[n]]);
    if (took >= 0) ordinals.push(["Read", messages.written[n] + messages.read[n]]);
  } else {
    const n = view.picked.moment;
    const lane = moments.lane[n];
    target.replaceChildren(
      make("h2", {}, `${laneName(lane)} ${run.texts[moments.text[n]]}`),
      facts([
        ["When", `${seconds(moments.at[n])} s`],
        ["What", run.kinds[moments.kind[n]]],
        ["Faults then", lane < 0 ? null : faultsDuring(moments.at[n], moments.at[n], [lane])],
      ]),
    );
    if (moments.send[n] >= 0) target.append(make("div", { class: "row" }, followButton(moments.send[n])));
    ordinals.push(["Event", moments.ordinal[n]]);
  }
  for (const [name, ordinal] of ordinals) {
    const lines = make("pre", { class: "wrap" });
    target.append(make("h3", {}, `${name}, in the trace`), lines);
    // Room for them, so that nothing moves when they come.
    lines.style.minHeight = "calc(7 * 1.55em + 18px)";
    try {
      for (const [nth, text] of await traceLines(ordinal - 2, ordinal + 2)) {
        if (turn !== shownFor) return;
        // The columns of a file are wider than this.
        const narrow = text.trim().replace(/ +/g, " ");
        lines.append(make("span", {}, nth === ordinal ? make("mark", {}, narrow) : narrow));
      }
      if (!lines.firstChild) lines.textContent = "these lines were left out";
    } catch (error) {
      problems.push(String(error));
      lines.textContent = "this browser cannot unpack the trace";
    }
  }
}

function fillPlan() {
  pane("plan").replaceChildren(
    make("p", { class: "quiet" }, "Everything random about this run. Saved to a file, it runs again with:"),
    make("div", { style: "height: 8px" }),
    command(),
    make("h3", {}, "Plan"),
    make("pre", { class: "wrap" }, run.plan),
  );
}
