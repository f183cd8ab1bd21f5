"use strict";
// The model (kws/model/features.py and network.py) in plain JavaScript, and the page around it.
const SAMPLE_RATE = 16000, N_SAMPLES = 16000; // as kws/data/audio.py
const SHOWN_S = 4, PREDICT_EVERY_S = 0.1, SMOOTHED = 3, REFRACTORY_S = 0.7, LOUDER_DB = 10, AUDIBLE_DB = -60;
const DRAWN_LOG_MEL = [-9, 6]; // from the darkest to the lightest colour
const PALETTE = [[16, 18, 28], [28, 58, 112], [0, 128, 150], [92, 200, 130], [250, 232, 140]];

const model = JSON.parse(document.getElementById("model").textContent);
const { labels, words, nFft, hop, nMels, meanNorm, groups } = model;
const numbers = (text) => new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
const blocks = model.blocks.map((block) => block.map(numbers)); // [weight, scale, shift], batch norm folded into both
const [linear, bias] = model.linear.map(numbers);
const N_FRAMES = 1 + Math.floor((N_SAMPLES + 2 * (nFft >> 1) - nFft) / hop);

// Log-mel
const range = (n, f) => Float64Array.from({ length: n }, (_, i) => f(i));
const cosine = range(nFft, (i) => Math.cos((2 * Math.PI * i) / nFft));
const sine = range(nFft, (i) => Math.sin((2 * Math.PI * i) / nFft));
const hann = cosine.map((c) => 0.5 - 0.5 * c);
const melFilters = numbers(model.melFilters);
const bands = Array.from({ length: nMels }, (_, band) => {
  const weights = Array.from({ length: (nFft >> 1) + 1 }, (_, i) => melFilters[i * nMels + band]);
  const first = weights.findIndex((w) => w > 0), last = weights.findLastIndex((w) => w > 0);
  return first < 0 ? [0, []] : [first, weights.slice(first, last + 1)];
});

/** Return the DFT of x[start], x[start + step], … (n values) as [real, imaginary]. n * step is nFft. */
function transform(x, start, step, n) {
  const real = new Float64Array(n), imag = new Float64Array(n);
  if (n % 2) {
    for (let k = 0; k < n; k++) {
      for (let i = 0; i < n; i++) {
        const value = x[start + i * step], turn = ((i * k) % n) * step;
        real[k] += value * cosine[turn];
        imag[k] -= value * sine[turn];
      }
    }
    return [real, imag];
  }
  const half = n / 2;
  const [evenReal, evenImag] = transform(x, start, 2 * step, half);
  const [oddReal, oddImag] = transform(x, start + step, 2 * step, half);
  for (let k = 0; k < half; k++) {
    const c = cosine[k * step], s = sine[k * step];
    const a = c * oddReal[k] + s * oddImag[k], b = c * oddImag[k] - s * oddReal[k];
    real[k] = evenReal[k] + a;
    imag[k] = evenImag[k] + b;
    real[k + half] = evenReal[k] - a;
    imag[k + half] = evenImag[k] - b;
  }
  return [real, imag];
}

/** Return the log-mel bands of the frame that starts at samples[start]. */
function logMel(samples, start) {
  const [real, imag] = transform(hann.map((w, i) => w * samples[start + i]), 0, 1, nFft);
  return bands.map(([first, weights]) => {
    let sum = 0;
    weights.forEach((w, i) => (sum += w * (real[first + i] ** 2 + imag[first + i] ** 2)));
    return Math.log(sum + 1e-6);
  });
}

/** Return the frames of a clip of N_SAMPLES, reflected at both ends as in training. */
function framesOf(clip) {
  const edge = nFft >> 1, n = clip.length;
  const padded = range(n + 2 * edge, (i) => clip[n - 1 - Math.abs(n - 1 - Math.abs(i - edge))]);
  return Array.from({ length: N_FRAMES }, (_, i) => logMel(padded, i * hop));
}

// Network
function convolve(input, nFrames, inputs, groups, [weight, scale, shift]) {
  const outputs = scale.length, perGroup = inputs / groups, kernel = weight.length / outputs / perGroup;
  const row = new Float32Array(nFrames), pooled = nFrames >> 1, output = new Float32Array(outputs * pooled);
  for (let out = 0; out < outputs; out++) {
    row.fill(0);
    const firstInput = Math.floor((out * groups) / outputs) * perGroup;
    for (let i = 0; i < perGroup; i++) {
      for (let k = 0; k < kernel; k++) {
        const w = weight[(out * perGroup + i) * kernel + k], offset = k - (kernel >> 1);
        const from = Math.max(0, -offset), to = Math.min(nFrames, nFrames - offset);
        const base = (firstInput + i) * nFrames + offset;
        for (let t = from; t < to; t++) row[t] += w * input[base + t];
      }
    }
    for (let t = 0; t < pooled; t++) {
      const most = Math.max(row[2 * t], row[2 * t + 1]);
      output[out * pooled + t] = Math.max(0, most * scale[out] + shift[out]);
    }
  }
  return output;
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Return the probability of each label for N_FRAMES frames of log-mel. */
function classify(frames) {
  let n = frames.length, inputs = nMels, features = new Float32Array(nMels * n);
  frames.forEach((frame, t) => frame.forEach((value, band) => (features[band * n + t] = value)));
  const size = { none: 0, clip: features.length, band: n }[meanNorm]; // of what one mean is subtracted from
  for (let at = 0; size && at < features.length; at += size) {
    const part = features.subarray(at, at + size), level = mean(part);
    part.forEach((value, i) => (part[i] = value - level));
  }
  blocks.forEach((block, number) => {
    features = convolve(features, n, inputs, number ? groups : 1, block);
    inputs = block[1].length;
    n >>= 1;
  });
  const means = Array.from({ length: inputs }, (_, i) => mean(features.subarray(i * n, (i + 1) * n)));
  const logits = Array.from(bias, (b, label) => means.reduce((sum, m, i) => sum + m * linear[label * inputs + i], b));
  if (logits.length === 1) logits.unshift(0); // softmax of 0 and z is sigmoid(-z) and sigmoid(z)
  const most = Math.max(...logits), powers = logits.map((z) => Math.exp(z - most));
  return powers.map((p) => p / powers.reduce((a, b) => a + b));
}

/** Return the probability of each label for up to a second of samples at 16 kHz. */
function probabilities(samples) {
  const clip = new Float32Array(N_SAMPLES);
  clip.set(Array.from(samples).slice(0, N_SAMPLES));
  return classify(framesOf(clip));
}

// A stream: frames are computed once, as their samples arrive. At the ends of a window they see the sound beside it.
const EVERY = Math.max(1, Math.round((PREDICT_EVERY_S * SAMPLE_RATE) / hop));
const detections = [];
let stream;

function restart() {
  stream = { rest: new Float32Array(nFft >> 1), frames: [], levels: [], recent: [], position: 0, undrawn: [], last: -9 };
  detections.length = 0;
  document.getElementById("detections").replaceChildren();
  document.getElementById("markers").replaceChildren();
  picture.fillStyle = `rgb(${PALETTE[0]})`;
  picture.fillRect(0, 0, canvas.width, canvas.height);
}

const seconds = () => (stream.position * hop) / SAMPLE_RATE;

function feed(samples) {
  const all = new Float32Array(stream.rest.length + samples.length);
  all.set(stream.rest);
  all.set(samples, stream.rest.length);
  let at = 0;
  for (; at + nFft <= all.length; at += hop) {
    const frame = logMel(all, at);
    stream.levels.push(10 * Math.log10(mean(all.subarray(at, at + nFft).map((value) => value * value)) + 1e-10));
    stream.frames.push(frame);
    stream.undrawn.push(frame);
    stream.position++;
    if (stream.frames.length > N_FRAMES) stream.frames.shift();
    if (stream.levels.length > 3 * N_FRAMES) stream.levels.shift();
    if (stream.undrawn.length > canvas.width) stream.undrawn.shift();
    if (stream.frames.length === N_FRAMES && stream.position % EVERY === 0) predict();
  }
  stream.rest = all.slice(at);
}

function predict() {
  const now = classify(stream.frames);
  stream.recent = [...stream.recent, now].slice(-SMOOTHED);
  stream.now = now;
  // A word is louder than what surrounds it, and is complete when its loudest frame is in the middle of the window.
  const levels = stream.levels.slice(-N_FRAMES), loudest = Math.max(...levels);
  const quiet = [...stream.levels].sort((a, b) => a - b)[Math.floor(stream.levels.length / 5)];
  const place = levels.indexOf(loudest) / N_FRAMES;
  if (loudest < AUDIBLE_DB || loudest - quiet < LOUDER_DB || place < 0.2 || place > 0.8) return;
  const smoothed = labels.slice(0, words).map((_, label) => mean(stream.recent.map((p) => p[label])));
  const probability = Math.max(...smoothed);
  const time = seconds() - 1 + place;
  if (probability >= Number(threshold.value) && time - stream.last >= REFRACTORY_S) {
    stream.last = time;
    detected(time, labels[smoothed.indexOf(probability)], probability);
  }
}

function detected(time, label, probability) {
  detections.push({ time, label, probability });
  const item = document.createElement("li");
  for (const [kind, text] of [["time", `${time.toFixed(1)} s`], ["word", label], ["share", percent(probability)]]) {
    const part = document.createElement("span");
    part.className = kind;
    part.textContent = text;
    item.append(part);
  }
  document.getElementById("detections").prepend(item);
  const marker = document.createElement("span");
  marker.textContent = label;
  marker.dataset.time = time;
  document.getElementById("markers").append(marker);
}

// The page
const percent = (share) => `${(100 * share).toFixed(0)} %`;
const canvas = document.getElementById("picture"), picture = canvas.getContext("2d", { alpha: false });
const threshold = document.getElementById("threshold"), status = document.getElementById("status");
const button = document.getElementById("listen"), bars = [...document.querySelectorAll("#bars li")];
canvas.width = Math.round((SHOWN_S * SAMPLE_RATE) / hop);
canvas.height = nMels;

function colour(value) {
  const [low, high] = DRAWN_LOG_MEL, last = PALETTE.length - 1;
  const place = Math.min(Math.max((value - low) / (high - low), 0), 1) * last, left = Math.min(Math.floor(place), last - 1);
  return PALETTE[left].map((part, i) => part + (PALETTE[left + 1][i] - part) * (place - left));
}

function show(shares) {
  const best = Math.max(...shares);
  bars.forEach((bar, label) => {
    bar.classList.toggle("best", shares[label] === best);
    bar.querySelector(".fill").style.transform = `scaleX(${shares[label]})`;
    bar.querySelector(".share").textContent = percent(shares[label]);
  });
}

function draw() {
  const columns = stream.undrawn.splice(0);
  if (columns.length) {
    picture.drawImage(canvas, -columns.length, 0);
    const image = picture.createImageData(columns.length, nMels);
    columns.forEach((frame, x) => frame.forEach((value, band) => {
      image.data.set([...colour(value), 255], 4 * ((nMels - 1 - band) * columns.length + x));
    }));
    picture.putImageData(image, canvas.width - columns.length, 0);
    document.getElementById("level").value = Math.max(0, 1 + Math.max(...stream.levels.slice(-columns.length)) / 60);
  }
  for (const marker of document.querySelectorAll("#markers span")) {
    const left = 1 - (seconds() - marker.dataset.time) / SHOWN_S;
    marker.style.left = `${100 * left}%`;
    if (left < 0) marker.remove();
  }
  if (stream.now) show(stream.now);
  requestAnimationFrame(draw);
}

let context, sound;

async function listen() {
  if (context) return stop();
  button.disabled = true;
  try {
    const constraints = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    sound = await navigator.mediaDevices.getUserMedia({ audio: constraints });
    context = new AudioContext({ sampleRate: SAMPLE_RATE });
    const code = `registerProcessor("tap", class extends AudioWorkletProcessor {
      process([input]) { if (input[0]) this.port.postMessage(input[0].slice()); return true; } });`;
    await context.audioWorklet.addModule(`data:text/javascript,${encodeURIComponent(code)}`); // no blob: from disk
    const tap = new AudioWorkletNode(context, "tap", { numberOfOutputs: 0 });
    restart();
    tap.port.onmessage = ({ data }) => context && feed(data);
    context.createMediaStreamSource(sound).connect(tap);
    button.textContent = "Stop listening";
    status.textContent = "Listening.";
  } catch (error) {
    stop();
    const why = navigator.mediaDevices ? error.message : "open the page from disk, from localhost or over https";
    status.textContent = `The microphone is unavailable: ${why}`;
  }
  button.disabled = false;
}

function stop() {
  sound?.getTracks().forEach((track) => track.stop());
  context?.close();
  context = sound = undefined;
  button.textContent = "Listen to the microphone";
  status.textContent = "";
}

/** Classify an audio file: a second or less as one clip, a longer one as a stream. */
async function open(file) {
  stop();
  status.textContent = `Reading ${file.name}`;
  try {
    const buffer = await new OfflineAudioContext(1, 1, SAMPLE_RATE).decodeAudioData(await file.arrayBuffer());
    const channels = Array.from({ length: buffer.numberOfChannels }, (_, i) => buffer.getChannelData(i));
    const samples = channels[0].map((_, i) => mean(channels.map((channel) => channel[i])));
    restart();
    if (samples.length <= N_SAMPLES) {
      const shares = probabilities(samples), best = Math.max(...shares);
      feed(samples);
      stream.now = shares;
      detected(samples.length / SAMPLE_RATE / 2, labels[shares.indexOf(best)], best);
    } else {
      const silence = new Float32Array(N_SAMPLES / 2);
      for (const part of [samples, silence]) {
        for (let at = 0; at < part.length; at += N_SAMPLES / 2) {
          feed(part.subarray(at, at + N_SAMPLES / 2));
          await new Promise((resolve) => setTimeout(resolve)); // the page stays responsive
        }
      }
    }
    status.textContent = `${file.name}: ${buffer.duration.toFixed(1)} s`;
  } catch (error) {
    status.textContent = `${file.name} cannot be read as audio: ${error.message}`;
  }
}

const THEMES = ["auto", "light", "dark"], theme = document.querySelector(".theme");
theme.onclick = () => {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length];
  document.documentElement.dataset.theme = next;
  theme.textContent = `Theme: ${next}`;
};
threshold.oninput = () => (document.getElementById("limit").textContent = percent(threshold.value));
button.onclick = listen;
document.getElementById("file").onchange = ({ target }) => target.files[0] && open(target.files[0]);
restart();
requestAnimationFrame(draw);
