// Who is registered: a page at a time, since there may be ten thousand of them, or ten million.
import { ask, element, number, size } from "./store.js";

const ROWS = 50;
const AGAIN = 2000;

/** The characters that a name may have, in their order. */
const LETTERS = "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";

/** A name that comes right before all that begin with `start`; empty if there is none. */
export function before(start) {
  if (!start) return "";
  const last = LETTERS.indexOf(start.at(-1));
  const front = start.slice(0, -1);
  return last <= 0 ? front : (front + LETTERS[last - 1]).padEnd(64, "z");
}

function seen(client) {
  return client.online ? "connected" : client.waiting ? "away, has mail" : "away";
}

export function clientsView() {
  const find = document.getElementById("find-name");
  const form = document.getElementById("register");
  const note = document.getElementById("clients-note");
  const back = document.getElementById("page-back"), on = document.getElementById("page-on"), words = document.getElementById("page-words");
  const body = document.getElementById("client-rows");
  // The names that the pages before began after.
  let stack = [before(find.value)], timer, over = false, asked = 0;

  async function load() {
    clearTimeout(timer);
    const turn = ++asked;
    const after = stack.at(-1);
    try {
      const page = await ask("GET", `/clients?local=true&limit=${ROWS}${after ? `&after=${encodeURIComponent(after)}` : ""}`);
      if (over || turn !== asked) return;
      draw(page);
      if (note.classList.contains("bad")) say("");
    } catch (error) {
      if (!over && turn === asked) say(error.message, true);
    }
    if (!over && turn === asked) timer = setTimeout(load, AGAIN);
  }

  function draw(page) {
    page.clients.forEach((client, place) => {
      let row = body.children[place];
      if (!row) { row = element("tr", {}, element("td", {}, element("a", {})), element("td"), element("td"), element("td", { class: "n" }), element("td", { class: "n" })); body.append(row); }
      const link = row.querySelector("a");
      set(link, client.name);
      const target = `#/client/${encodeURIComponent(client.name)}`;
      if (link.getAttribute("href") !== target) link.setAttribute("href", target);
      set(row.children[1], client.home);
      set(row.children[2], seen(client));
      row.children[2].className = client.online ? "" : "dim";
      set(row.children[3], number(client.waiting));
      set(row.children[4], size(client.waiting_bytes));
    });
    while (body.childElementCount > page.clients.length) body.lastChild.remove();
    back.disabled = stack.length < 2;
    on.disabled = !page.more;
    const names = page.clients;
    words.textContent = names.length ? `${names[0].name} to ${names.at(-1).name}` : "Nobody is registered here. Register a name above.";
  }

  function set(node, text) { if (node.textContent !== text) node.textContent = text; }
  function say(text, bad = false) { note.textContent = text; note.classList.toggle("bad", bad); }

  const search = () => { stack = [before(find.value)]; load(); };
  const prevent = (event) => { event.preventDefault(); search(); };
  const forward = () => { const last = body.lastElementChild?.querySelector("a")?.textContent; if (last) { stack.push(last); load(); } };
  const backward = () => { if (stack.length > 1) { stack.pop(); load(); } };
  const register = async (event) => {
    event.preventDefault();
    const field = document.getElementById("register-name");
    try {
      const client = await ask("POST", "/clients", { name: field.value }, true);
      say(`${client.name} is registered, at home at ${client.home}.`);
      field.value = "";
      load();
    } catch (error) { say(error.message, true); }
  };
  find.addEventListener("input", search);
  find.form.addEventListener("submit", prevent);
  form.addEventListener("submit", register);
  back.addEventListener("click", backward);
  on.addEventListener("click", forward);
  load();
  return () => {
    over = true;
    clearTimeout(timer);
    find.removeEventListener("input", search);
    find.form.removeEventListener("submit", prevent);
    form.removeEventListener("submit", register);
    back.removeEventListener("click", backward);
    on.removeEventListener("click", forward);
  };
}
