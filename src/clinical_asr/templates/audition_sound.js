"use strict";
/* Sound: fetched once, drawn from its samples, played from memory. */
const tab = document.body.dataset.tab;

/* Ask the server; an answer that is not well is an Error whose message can be shown. */
async function ask(path, body) {
  const wish = { headers: { "X-Audition-Tab": tab } };
  if (body !== undefined) {
    wish.method = "POST";
    wish.body = JSON.stringify(body);
    wish.headers["Content-Type"] = "application/json";
  }
  const answer = await fetch(path, wish);
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({ error: answer.statusText }));
    throw Object.assign(new Error(said.error), { status: answer.status });
  }
  return answer;
}

/* The samples of a mono PCM16 WAV. */
function samplesOf(buffer) {
  const view = new DataView(buffer);
  for (let at = 12; at + 8 <= view.byteLength; at += 8 + view.getUint32(at + 4, true) + (view.getUint32(at + 4, true) & 1)) {
    if (view.getUint32(at, false) === 0x64617461) { // "data"
      const bytes = Math.min(view.getUint32(at + 4, true), view.byteLength - at - 8);
      return new Int16Array(buffer.slice(at + 8, at + 8 + (bytes & ~1)));
    }
  }
  return new Int16Array(0);
}

/* Path of an envelope, lowest to highest sample per column, in a box of 600 x 96. */
function envelope(samples, columns = 300) {
  const step = Math.max(1, Math.floor(samples.length / columns));
  let loudest = 1;
  for (const sample of samples) loudest = Math.max(loudest, Math.abs(sample));
  let path = "";
  for (let column = 0; column < columns && column * step < samples.length; column++) {
    let low = 0, high = 0;
    for (let i = column * step; i < Math.min((column + 1) * step, samples.length); i++) {
      if (samples[i] < low) low = samples[i];
      if (samples[i] > high) high = samples[i];
    }
    const top = 48 - Math.max(0.7, 44 * high / loudest), bottom = 48 + Math.max(0.7, 44 * -low / loudest);
    path += `M${column * 2 + 0.5} ${top.toFixed(1)}h1.2V${bottom.toFixed(1)}h-1.2z`;
  }
  return path;
}

/* One voice at a time. play() resolves to true if the sound reached its end, false if it was stopped. */
const speaker = {
  audio: new Audio(), stop() {},
  async play(buffer, onTime = () => {}) {
    this.stop();
    const audio = this.audio, url = URL.createObjectURL(new Blob([buffer], { type: "audio/wav" }));
    let going = true, settle;
    const over = new Promise((resolve) => { settle = resolve; });
    const finish = (whole) => {
      if (!going) return;
      going = false;
      this.stop = () => {};
      audio.onended = null;
      audio.pause();
      audio.removeAttribute("src"); // what is still being loaded is given up before its address goes
      audio.load();
      URL.revokeObjectURL(url);
      settle(whole);
    };
    this.stop = () => finish(false);
    audio.onended = () => finish(true);
    audio.src = url;
    audio.playbackRate = 1;
    const draw = () => { if (going) { onTime(audio.currentTime); requestAnimationFrame(draw); } };
    try { await audio.play(); } catch (error) { if (going) { finish(false); throw error; } }
    draw();
    return over;
  },
};
