// A button that copies the citation; without a clipboard the text is selected.

function copyButton(from) {
  const button = el("button", { type: "button", onclick: async () => {
    getSelection().selectAllChildren(from);
    const copied = await navigator.clipboard?.writeText(from.textContent).then(() => true, () => false);
    button.textContent = copied ? "Copied" : "Selected: copy it";
  } }, "Copy BibTeX");
  return button;
}

for (const text of document.querySelectorAll(".bibtex")) text.before(copyButton(text));
