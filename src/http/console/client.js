// One client: what waits in its inbox, and a form to send. What is sent goes on a numbered stream, so that a message whose
// server dies is put again at another one, and is still one message.
import { Inbox, Refused, ask, element, number, size } from "./store.js";

const AGAIN = 2000;
/** Messages on the page. Older ones are still in the inbox. */
const SHOWN = 300;

/** What was sent from this page, by sender: the stream, what is on its way, and what is shown. It outlives a change of view. */
const senders = new Map();

function hex() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function sender(name) {
  if (!senders.has(name)) senders.set(name, { nonce: hex(), stream: null, next: 1, collected: 0, collecting: false, queue: Promise.resolve(), shown: [] });
  return senders.get(name);
}

/** Whom a line names: a client, several with commas between them, `#` and a channel, or `*` for everybody. */
export function destination(line) {
  const text = line.trim();
  if (text === "*") return { all: "clients" };
  if (text.startsWith("#")) return { channel: text.slice(1) };
  const names = text.split(",").map((name) => name.trim()).filter(Boolean);
  return names.length === 1 ? names[0] : names;
}

/** Asks for the delivered receipts of a sender's stream, as long as some of its messages wait for theirs. */
async function collect(own) {
  if (own.collecting) return;
  own.collecting = true;
  while (own.shown.some((sent) => sent.number && sent.stream === own.stream && !sent.fate)) {
    try {
      const { receipts } = await ask("GET", `/streams/${own.stream}/receipts?wait=5&collected=${own.collected}`);
      for (const receipt of receipts) {
        own.collected = Math.max(own.collected, receipt.sequence);
        const sent = own.shown.find((known) => known.stream === own.stream && known.number === receipt.number);
        if (sent) { sent.fate = receipt.fate; sent.draw(); }
      }
    } catch (error) {
      // A stream that is closed tells into the inbox.
      if (error instanceof Refused) break;
      await new Promise((done) => setTimeout(done, 1000));
    }
  }
  own.collecting = false;
}

/** What became of a message at its recipients. */
function fated({ acknowledged, expired, ended }) {
  const parts = [acknowledged && `acknowledged${acknowledged > 1 ? ` by ${number(acknowledged)}` : ""}`, expired && `${number(expired)} expired`, ended && `${number(ended)} ended`];
  return parts.filter(Boolean).join(", ") || "nobody to get it";
}

/** Sends, one after the other, however long it takes. */
function send(name, to, text, sent) {
  const own = sender(name);
  const sending = own.queue.then(async () => {
    for (;;) {
      try {
        if (own.stream === null) {
          const opened = await ask("POST", "/streams", { client: name, nonce: own.nonce }, true);
          [own.stream, own.next, own.collected] = [opened.stream, opened.next, 0];
        }
        const number = own.next;
        try {
          const receipt = await ask("PUT", `/streams/${own.stream}/${number}?confirmed=${number - 1}&receipt=delivered`, { to: destination(to), text }, true);
          own.next = number + 1;
          [sent.stream, sent.number] = [own.stream, number];
          return receipt;
        } catch (error) {
          // Refused for good, it has used its number up.
          if (error instanceof Refused && error.problem.outcome === "refused") own.next = number + 1;
          throw error;
        }
      } catch (error) {
        if (!(error instanceof Refused)) { await new Promise((done) => setTimeout(done, 500)); continue; }
        if (error.problem.code === "stream_closed") { own.stream = null; own.nonce = hex(); continue; }
        throw error;
      }
    }
  });
  own.queue = sending.catch(() => {});
  return sending;
}

export function clientView(name) {
  const list = document.getElementById("messages");
  const note = document.getElementById("client-note");
  const acknowledge = document.getElementById("acknowledge");
  const to = document.getElementById("send-to"), text = document.getElementById("send-text"), form = document.getElementById("send");
  document.getElementById("client-name").textContent = name;
  let over = false, timer, inbox = null, last = 0, follows = null, acknowledged = 0;
  const rows = new Map();
  list.replaceChildren(element("li", { class: "none" }, "Nothing waits."));

  function atEnd() { return list.scrollHeight - list.scrollTop - list.clientHeight < 60; }
  function add(row) {
    const stay = atEnd();
    list.querySelector(".none")?.remove();
    list.append(row);
    while (list.childElementCount > SHOWN) list.firstChild.remove();
    if (stay) list.scrollTop = list.scrollHeight;
  }
  function bubble(kind, says, ...about) {
    return element("li", { class: `message ${kind}` }, element("div", { class: "says" }, says), element("div", { class: "about" }, ...about));
  }
  function say(words, bad = false) { note.textContent = words; note.classList.toggle("bad", bad); }
  function waiting(count) {
    const words = document.getElementById("waiting-words");
    words.textContent = count === 0 ? "nothing waits" : `${number(count)} ${count === 1 ? "message waits" : "messages wait"}`;
    acknowledge.disabled = !(inbox && last > acknowledged && (inbox.reader === "nobody"));
    acknowledge.title = inbox?.reader === "session" ? "A session reads this inbox, and acknowledges for itself." : "";
  }
  function marked() {
    for (const [position, row] of rows) row.classList.toggle("done", position <= acknowledged);
  }

  async function load() {
    clearTimeout(timer);
    try {
      const client = await ask("GET", `/clients/${encodeURIComponent(name)}`);
      if (over) return;
      const words = `at home at ${client.home}, ${client.online ? "connected" : "not connected"}; ${number(client.waiting)} waiting, ${size(client.waiting_bytes)}`;
      const place = document.getElementById("client-words");
      if (place.textContent !== words) place.textContent = words;
      waiting(client.waiting);
      if (!follows) follow();
      if (note.classList.contains("bad")) say("");
    } catch (error) {
      if (over) return;
      const gone = error instanceof Refused && error.problem.code === "not_registered";
      document.getElementById("client-words").textContent = gone ? "not registered" : "";
      say(gone ? `Nobody is registered as ${name}: register it on the page of the clients.` : error.message, true);
    }
    if (!over) timer = setTimeout(load, AGAIN);
  }

  function follow() {
    follows = new Inbox(name, {
      inbox(news) { inbox = news; acknowledged = Math.max(acknowledged, news.acknowledged); marked(); waiting(news.waiting); },
      message(message) {
        last = Math.max(last, message.position);
        const says = message.notice ? `Your message ${number(message.notice.number)}: ${fated(message.notice.fate)}` : message.text ?? `${size(message.base64.length * 0.75)} of data`;
        const row = bubble(message.notice ? "notice" : "", says, element("b", {}, message.notice ? "receipt" : message.from), message.channel ? ` to #${message.channel}` : "", ` · position ${message.position}${message.redelivered ? " · perhaps seen before" : ""}`);
        row.dataset.position = message.position;
        rows.set(message.position, row);
        add(row);
        if (!to.value && !message.notice) to.value = message.channel ? `#${message.channel}` : message.from;
        acknowledge.disabled = !(inbox && inbox.reader === "nobody");
      },
      ended() { rows.clear(); inbox = null; last = acknowledged = 0; list.replaceChildren(element("li", { class: "none" }, "Nothing waits.")); },
    });
  }

  function showSent(sent) {
    const row = bubble("mine", sent.text, "");
    const about = row.querySelector(".about");
    sent.draw = () => {
      const safe = sent.receipt && (sent.receipt.position ? `accepted at position ${sent.receipt.position}` : `accepted, in ${number(sent.receipt.inboxes)} ${sent.receipt.inboxes === 1 ? "inbox" : "inboxes"}${sent.receipt.full ? `, ${number(sent.receipt.full)} full` : ""}`);
      row.classList.toggle("seen", Boolean(sent.fate?.delivered && sent.fate.acknowledged));
      about.textContent = safe ? `to ${sent.to} · ${sent.fate ? `${fated(sent.fate)} ✓` : safe}` : sent.error ? `to ${sent.to} · ${sent.error}` : `to ${sent.to} · on its way`;
      row.classList.toggle("failed", Boolean(sent.error));
    };
    sent.draw();
    add(row);
  }

  const submit = (event) => {
    event.preventDefault();
    if (!form.reportValidity()) return;
    const sent = { to: to.value, text: text.value, draw() {} };
    sender(name).shown.push(sent);
    showSent(sent);
    list.scrollTop = list.scrollHeight;
    text.value = "";
    text.focus();
    send(name, sent.to, sent.text, sent).then((receipt) => { sent.receipt = receipt; collect(sender(name)); }, (error) => { sent.error = error.message; }).then(() => sent.draw());
  };
  const keys = (event) => { if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); form.requestSubmit(); } };
  const confirm = async () => {
    acknowledge.disabled = true;
    try {
      const done = await ask("POST", `/clients/${encodeURIComponent(name)}/inbox/acknowledgements`, { registration: inbox.registration, epoch: inbox.epoch, up_to: last }, true);
      acknowledged = Math.max(acknowledged, done.acknowledged);
      marked();
      waiting(0);
      load();
    } catch (error) { say(error.message, true); }
  };
  form.addEventListener("submit", submit);
  text.addEventListener("keydown", keys);
  acknowledge.addEventListener("click", confirm);
  sender(name).shown.forEach(showSent);
  load();
  return () => {
    over = true;
    clearTimeout(timer);
    follows?.close();
    form.removeEventListener("submit", submit);
    text.removeEventListener("keydown", keys);
    acknowledge.removeEventListener("click", confirm);
    to.value = "";
    text.value = "";
    say("");
  };
}
