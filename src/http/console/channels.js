// Channels: which there are, who has joined one, and letting clients join and leave.
import { Refused, ask, element, number } from "./store.js";

const ROWS = 50;
const AGAIN = 2000;

function set(node, text) { if (node.textContent !== text) node.textContent = text; }
function say(note, text, bad = false) { note.textContent = text; note.classList.toggle("bad", bad); }

export function channelsView() {
  const form = document.getElementById("make-channel"), note = document.getElementById("channels-note");
  const back = document.getElementById("channels-back"), on = document.getElementById("channels-on"), words = document.getElementById("channels-words");
  const body = document.getElementById("channel-rows");
  // The names that the pages before began after.
  let stack = [""], timer, over = false, asked = 0;

  async function load() {
    clearTimeout(timer);
    const turn = ++asked, after = stack.at(-1);
    try {
      const page = await ask("GET", `/channels?limit=${ROWS}${after ? `&after=${encodeURIComponent(after)}` : ""}`);
      if (over || turn !== asked) return;
      draw(page);
      if (note.classList.contains("bad")) say(note, "");
    } catch (error) {
      if (!over && turn === asked) say(note, error.message, true);
    }
    if (!over && turn === asked) timer = setTimeout(load, AGAIN);
  }

  function draw({ channels, more }) {
    channels.forEach((channel, place) => {
      let row = body.children[place];
      if (!row) { row = element("tr", {}, element("td", {}, element("a", {})), element("td", { class: "n" })); body.append(row); }
      const link = row.querySelector("a"), target = `#/channel/${encodeURIComponent(channel.name)}`;
      set(link, channel.name);
      if (link.getAttribute("href") !== target) link.setAttribute("href", target);
      set(row.children[1], number(channel.members));
    });
    while (body.childElementCount > channels.length) body.lastChild.remove();
    back.disabled = stack.length < 2;
    on.disabled = !more;
    words.textContent = channels.length ? `${channels[0].name} to ${channels.at(-1).name}` : "There is no channel here. Make one above.";
  }

  const make = async (event) => {
    event.preventDefault();
    const field = document.getElementById("make-name");
    try {
      const channel = await ask("POST", "/channels", { name: field.value }, true);
      say(note, channel.created ? `${channel.name} is made.` : `${channel.name} was there already.`);
      field.value = "";
      load();
    } catch (error) { say(note, error.message, true); }
  };
  const forward = () => { const last = body.lastElementChild?.querySelector("a")?.textContent; if (last) { stack.push(last); load(); } };
  const backward = () => { if (stack.length > 1) { stack.pop(); load(); } };
  form.addEventListener("submit", make);
  back.addEventListener("click", backward);
  on.addEventListener("click", forward);
  load();
  return () => {
    over = true;
    clearTimeout(timer);
    form.removeEventListener("submit", make);
    back.removeEventListener("click", backward);
    on.removeEventListener("click", forward);
    say(note, "");
  };
}

export function channelView(name) {
  const form = document.getElementById("join"), note = document.getElementById("channel-note"), words = document.getElementById("channel-words");
  const body = document.getElementById("member-rows"), path = `/channels/${encodeURIComponent(name)}/members`;
  let timer, over = false, asked = 0;
  document.getElementById("channel-name").textContent = `#${name}`;
  body.replaceChildren();

  async function load() {
    clearTimeout(timer);
    const turn = ++asked;
    try {
      const page = await ask("GET", `${path}?limit=${ROWS}`);
      if (over || turn !== asked) return;
      draw(page);
      if (note.classList.contains("bad")) say(note, "");
    } catch (error) {
      if (over || turn !== asked) return;
      const gone = error instanceof Refused && error.problem.code === "no_such_channel";
      say(note, gone ? `There is no channel ${name}: make it on the page of the channels.` : error.message, true);
    }
    if (!over && turn === asked) timer = setTimeout(load, AGAIN);
  }

  function draw({ members, more }) {
    members.forEach((member, place) => {
      let row = body.children[place];
      if (!row) {
        const leave = element("button", { type: "button" }, "Leave");
        leave.addEventListener("click", () => change("DELETE", row.dataset.client, "has left"));
        row = element("tr", {}, element("td", {}, element("a", {})), element("td", { class: "n" }, leave));
        body.append(row);
      }
      row.dataset.client = member.client;
      const link = row.querySelector("a"), target = `#/client/${encodeURIComponent(member.client)}`;
      set(link, member.client);
      if (link.getAttribute("href") !== target) link.setAttribute("href", target);
      row.querySelector("button").setAttribute("aria-label", `Let ${member.client} leave`);
    });
    while (body.childElementCount > members.length) body.lastChild.remove();
    set(words, more ? `the first ${ROWS} of its members` : members.length ? `${members.length} ${members.length === 1 ? "member" : "members"}` : "nobody has joined");
  }

  async function change(method, client, done) {
    try {
      await ask(method, `${path}/${encodeURIComponent(client)}`, undefined, true);
      say(note, `${client} ${done}.`);
      load();
    } catch (error) { say(note, error.message, true); }
  }

  const join = (event) => {
    event.preventDefault();
    const field = document.getElementById("join-name");
    change("PUT", field.value, "has joined");
    field.value = "";
  };
  form.addEventListener("submit", join);
  load();
  return () => {
    over = true;
    clearTimeout(timer);
    form.removeEventListener("submit", join);
    say(note, "");
  };
}
