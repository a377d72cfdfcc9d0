// Pictures and short videos to search by: dropped anywhere, pasted, or chosen.

const MAX_FILES = 4;

/**
 * @param {object} parts elements: `button`, `input` (of type file), `overlay`
 * @param {(files: File[]) => void} onfiles
 */
export function addPictures({ button, input, overlay }, onfiles) {
  let depth = 0; // of elements that the pointer has entered while dragging

  const take = (list) => {
    const files = [...list].filter((file) => /^(image|video)\//.test(file.type)).slice(0, MAX_FILES);
    if (files.length) onfiles(files);
  };
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files") ?? false;
  const showOverlay = (change) => {
    depth = change === 0 ? 0 : Math.max(0, depth + change);
    overlay.hidden = depth === 0;
  };

  button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take(input.files);
    input.value = ""; // so that the same file may be chosen again
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length) take(event.clipboardData.files);
  });
  document.addEventListener("dragenter", (event) => holdsFiles(event) && showOverlay(1));
  document.addEventListener("dragleave", (event) => holdsFiles(event) && showOverlay(-1));
  document.addEventListener("dragover", (event) => {
    if (holdsFiles(event)) event.preventDefault(); // else the browser opens the file
  });
  document.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    showOverlay(0);
    take(event.dataTransfer.files);
  });
}
