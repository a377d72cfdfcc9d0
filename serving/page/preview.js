// Plays the moment of a hit, without sound, while the pointer or the focus rests on it.

import { clipPath, mediaPath, videoRecord } from "./api.js";
import { element } from "./dom.js";
import { browserPlays } from "./playback.js";

const DELAY_MS = 300;
const MAX_SECONDS = 8;

const prefersStillness = matchMedia("(prefers-reduced-motion: reduce)");
const hasPointer = matchMedia("(hover: hover)");

/** Makes `figure` play the moment while `card` is hovered or has the focus. */
export function addPreview(card, figure, { hit, startSeconds, endSeconds }) {
  const end = Math.min(endSeconds, startSeconds + MAX_SECONDS);
  let timer = 0;
  let video = null;
  let isOver = false;

  async function play() {
    const record = await videoRecord(hit.id).catch(() => null);
    if (!isOver || video || !record?.media || record.duration_seconds <= 0) return;
    const isWhole = browserPlays(record.media);
    const [first, last] = [startSeconds, end].map((value) => value + (record.media.offset_seconds ?? 0));
    video = element("video", { class: "preview", playsinline: true, tabindex: "-1" });
    [video.muted, video.loop, video.ariaHidden] = [true, !isWhole, "true"];
    video.addEventListener("playing", () => figure.classList.add("playing"), { once: true });
    if (isWhole) {
      const rewind = () => {
        if (!video || !isOver) return;
        video.currentTime = first;
        video.play().catch(() => {});
      };
      video.src = `${mediaPath(hit.id)}#t=${first.toFixed(2)},${last.toFixed(2)}`;
      video.addEventListener("pause", rewind); // browsers pause where the fragment ends
    } else {
      video.src = clipPath(hit.id, startSeconds, end);
    }
    figure.append(video);
    video.play().catch(() => {}); // taken away again before it began
  }

  function begin() {
    if (isOver || !hasPointer.matches || prefersStillness.matches) return;
    if (navigator.connection?.saveData) return;
    isOver = true;
    timer = setTimeout(play, DELAY_MS);
  }

  function stop() {
    isOver = false;
    clearTimeout(timer);
    figure.classList.remove("playing");
    if (!video) return;
    video.pause();
    video.removeAttribute("src");
    video.load(); // ends the download
    video.remove();
    video = null;
  }

  const isInside = (event) => card.contains(event.relatedTarget);
  card.addEventListener("pointerenter", begin);
  card.addEventListener("pointerleave", stop);
  card.addEventListener("focusin", begin);
  card.addEventListener("focusout", (event) => isInside(event) || stop());
}
