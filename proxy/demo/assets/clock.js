// The clock page: shows the time that the origin sends, and connects again when the connection ends.
"use strict";

const ECHOES = 8;
const LONGEST_WAIT_S = 8;

const state = document.getElementById("clock-state");
const time = document.getElementById("clock-time");
const form = document.getElementById("clock-form");
const text = document.getElementById("clock-text");
const send = form.querySelector("button");
const echoes = document.getElementById("clock-echoes");

let socket = null;
let wait = 1;
let sent = []; // what was sent and has not come back yet, oldest first

function connect() {
  showState("unknown", "connecting");
  socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/clock/ws`);
  socket.addEventListener("open", () => {
    wait = 1;
    showState("on", "open");
    send.disabled = false;
  });
  socket.addEventListener("message", (event) => (event.data === sent[0] ? showEcho(sent.shift()) : showTime(event.data)));
  socket.addEventListener("close", () => {
    sent = [];
    send.disabled = true;
    showState("off", `closed, trying again in ${wait} s`);
    setTimeout(connect, wait * 1000);
    wait = Math.min(wait * 2, LONGEST_WAIT_S);
  });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (socket.readyState !== WebSocket.OPEN) return;
  sent.push(text.value);
  socket.send(text.value);
  text.value = "";
});

function showTime(stamp) {
  time.dateTime = stamp;
  time.textContent = stamp.slice(11, 19);
}

function showEcho(message) {
  const item = document.createElement("li");
  item.textContent = message;
  echoes.prepend(item);
  while (echoes.children.length > ECHOES) echoes.lastChild.remove();
}

function showState(name, words) {
  state.dataset.state = name;
  state.textContent = words;
}

connect();
