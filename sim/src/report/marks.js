// The signs on the lanes, what is selected, and the violation.

function drawMoments() {
  const from = lowerBound(moments.at, view.from - view.span * 0.01),
    to = lowerBound(moments.at, view.from + view.span);
  const many = to - from > view.width * 1.2,
    room = view.dense ? 8 : many ? 3 : 0;
  let traffic = 0;
  for (let n = from; n < to; n++) if (TRAFFIC.has(moments.kind[n])) traffic++;
  // Where they would be one beside the other, the profile of the load says it better.
  const bare = view.dense && traffic > (view.width / 14) * run.lanes.length;
  const last = new Map();
  for (let n = from; n < to; n++) {
    const lane = moments.lane[n],
      kind = moments.kind[n];
    if (lane < 0) continue;
    const isTraffic = TRAFFIC.has(kind);
    if ((many && !isTraffic && !CHAPTERS.has(kind)) || (bare && isTraffic)) continue;
    const px = x(moments.at[n]);
    // Of many at one place one is enough.
    const key = lane * 100 + kind;
    if (isTraffic && px - (last.get(key) ?? -99) < room) continue;
    last.set(key, px);
    const dim = view.sends && !view.sends.has(moments.send[n]);
    paint.globalAlpha = dim ? 0.25 : 1;
    mark(px, laneY(lane), run.kinds[kind], color.lanes[lane]);
    view.drawn.moments.push(n);
  }
  paint.globalAlpha = 1;
}

/** One sign for each kind; on clients, what goes out is above the track and what comes in is below. */
function mark(px, y, kind, own) {
  const shape = (points) => {
    paint.beginPath();
    for (const [dx, dy] of points) paint.lineTo(px + dx, y + dy);
    paint.closePath();
  };
  paint.fillStyle = paint.strokeStyle = own;
  paint.lineWidth = 1.4;
  switch (kind) {
    case "send":
      shape([
        [-4, -3],
        [4, -3],
        [0, -10],
      ]);
      paint.stroke();
      break;
    case "receipt":
      shape([
        [-4, -3],
        [4, -3],
        [0, -10],
      ]);
      paint.fill();
      break;
    case "delivery":
      shape([
        [-4, 3],
        [4, 3],
        [0, 10],
      ]);
      paint.fill();
      break;
    case "acknowledgement":
      paint.fillRect(px - 0.75, y + 2, 1.5, 10);
      break;
    case "confirmation":
      paint.fillRect(px - 2.5, y + 11, 5, 1.6);
      break;
    case "refusal":
      cross(px, y - 7, 3.5, color.fault);
      break;
    case "leader":
      shape([
        [0, -9],
        [8, 0],
        [0, 9],
        [-8, 0],
      ]);
      paint.fill();
      break;
    case "candidate":
      shape([
        [0, -6],
        [5, 0],
        [0, 6],
        [-5, 0],
      ]);
      paint.fillStyle = color.paper;
      paint.fill();
      paint.stroke();
      break;
    case "start":
      shape([
        [-3, -7],
        [7, 0],
        [-3, 7],
      ]);
      paint.fill();
      break;
    case "down":
      paint.fillRect(px - 1.2, y - 8, 2.4, 16);
      break;
    case "panic":
      cross(px, y, 7, color.danger);
      break;
    case "damage":
    case "warning":
      shape([
        [0, -12],
        [5, -4],
        [-5, -4],
      ]);
      paint.fillStyle = color.fault;
      paint.fill();
      break;
    case "reader":
    case "home":
    case "registration":
    case "client":
      paint.beginPath();
      paint.arc(px, y, 3.2, 0, 7);
      paint.fillStyle = kind === "reader" ? own : color.paper;
      paint.fill();
      paint.stroke();
      break;
    default:
      paint.beginPath();
      paint.arc(px, y - 8, 2, 0, 7);
      paint.fill();
  }
}

function cross(px, y, size, own) {
  paint.strokeStyle = own;
  paint.lineWidth = 1.8;
  paint.beginPath();
  paint.moveTo(px - size, y - size);
  paint.lineTo(px + size, y + size);
  paint.moveTo(px - size, y + size);
  paint.lineTo(px + size, y - size);
  paint.stroke();
}

/** The violation: its time, its moments, and the messages that carried its sends. */
function drawFocus() {
  if (view.focus < 0) return;
  const focus = run.focuses[view.focus];
  paint.fillStyle = color.danger;
  paint.globalAlpha = 0.8;
  paint.fillRect(x(focus.at) - 0.75, view.axis, 1.5, view.height);
  if (!view.sends) {
    for (const send of focus.sends) {
      for (const n of messages.bySend[send].slice(0, 300)) {
        const near = endOf(n) >= view.from && messages.sent[n] <= view.from + view.span;
        if (near && isShown(n)) drawMessage(n, 0.85, 1.7, true, color.danger);
      }
    }
  }
  paint.globalAlpha = 1;
  for (const n of focus.moments) {
    const px = x(moments.at[n]);
    if (moments.lane[n] < 0 || px < -10 || px > view.width + 10) continue;
    const y = laneY(moments.lane[n]);
    mark(px, y, run.kinds[moments.kind[n]], color.danger);
    paint.strokeStyle = color.danger;
    paint.lineWidth = 2;
    paint.beginPath();
    paint.arc(px, y, 13, 0, 7);
    paint.stroke();
    view.drawn.moments.push(n);
  }
}

function drawPicked() {
  const ring = (n) => {
    paint.strokeStyle = color.ink;
    paint.lineWidth = 2;
    paint.beginPath();
    paint.arc(x(moments.at[n]), laneY(moments.lane[n]), 12, 0, 7);
    paint.stroke();
  };
  for (const [what, width] of [
    [view.hover, 2],
    [view.picked, 2.6],
  ]) {
    if (!what) continue;
    if (what.message !== undefined) {
      drawMessage(what.message, 1, width, true, color.ink);
      const [x0, y0] = line(what.message);
      paint.fillStyle = color.ink;
      paint.beginPath();
      paint.arc(x0, y0, 3.5, 0, 7);
      paint.fill();
    } else if (moments.lane[what.moment] >= 0) ring(what.moment);
    paint.globalAlpha = 1;
  }
}

