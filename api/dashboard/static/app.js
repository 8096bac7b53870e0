// What every page does by itself: the theme, copying, asking before something is lost, times in the reader's zone, and
// whether the server is heard.

const root = document.documentElement;

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

document.addEventListener("click", async (event) => {
  if (event.target.closest("[data-theme-switch]")) {
    root.dataset.theme = isDark() ? "light" : "dark";
    document.cookie = `scalpel-theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax`;
    document.dispatchEvent(new Event("theme"));
  }
  const copy = event.target.closest("[data-copy]");
  if (copy) await copyText(copy);
});

async function copyText(button) {
  const text = button.closest("figure").querySelector("pre").textContent;
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {  // no clipboard without https, but on this machine itself
    getSelection().selectAllChildren(button.closest("figure").querySelector("pre"));
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
}

document.addEventListener("submit", (event) => {
  const question = event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});

function localTimes(within) {
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
  for (const time of within.querySelectorAll("time[datetime]")) {
    const words = format.format(new Date(time.dateTime));
    if (time.textContent !== words) {
      time.title = time.dateTime;
      time.textContent = words;
    }
  }
}

const connection = document.getElementById("connection");
const say = (words) => { if (connection.textContent !== words) connection.textContent = words; };
document.addEventListener("htmx:sse:after:connection", () => say("live"));
document.addEventListener("htmx:sse:error", (event) => {
  if (event.detail.status === 401) location.reload();  // to the sign-in page
  else say("connecting again …");
});
document.addEventListener("htmx:after:swap", () => localTimes(document));
localTimes(document);

export { isDark };
