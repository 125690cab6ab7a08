// What every page does: look again every few seconds, send changes, say what became of them.
export async function get(address) {
  const answer = await fetch(address, { headers: { accept: "application/json" } });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error || answer.statusText);
  return found;
}

export async function send(address, content) {
  const answer = await fetch(address, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(content),
  });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error || answer.statusText);
  return found;
}

export function say(text, bad = false) {
  const place = document.getElementById("said");
  place.textContent = text;
  place.className = bad ? "shown bad" : "shown";
  clearTimeout(say.timer);
  say.timer = setTimeout(() => { place.className = ""; }, bad ? 9000 : 4000);
}

export const mayChange = document.body.dataset.mayChange === "yes";

function live(place) {
  const every = Number(place.dataset.every) * 1000;
  async function look() {
    if (!document.hidden && !place.matches(":focus-within")) {
      const open = new Set([...place.querySelectorAll("details[open] summary .name")].map((n) => n.textContent));
      try {
        const answer = await fetch(place.dataset.live);
        if (answer.ok && !answer.redirected) {
          place.innerHTML = await answer.text(); // a template of this server, every value escaped
          for (const name of place.querySelectorAll("details summary .name"))
            if (open.has(name.textContent)) name.closest("details").open = true;
          document.body.classList.remove("away");
          if (place.querySelector("[data-finished]")) return; // nothing more will change
        } else document.body.classList.add("away");
      } catch { document.body.classList.add("away"); }
    }
    setTimeout(look, every);
  }
  setTimeout(look, place.dataset.now ? 0 : every);
}
document.querySelectorAll("[data-live]").forEach(live);

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-retry]");
  if (!button) return;
  button.disabled = true;
  const asked = button.dataset.table ? { table: button.dataset.table, key: JSON.parse(button.dataset.key) } : {};
  try {
    const { retried } = await send("/api/retry", asked);
    say(`${button.dataset.done}: ${retried}`);
    (button.closest(".job") || button).remove();
    if (!button.dataset.table) location.reload();
  } catch (error) { say(error.message, true); button.disabled = false; }
});

const unlock = document.getElementById("unlock"); // come back to the page one was at
if (unlock) unlock.addEventListener("click", () => sessionStorage.setItem("back", location.pathname + location.search));
const back = document.getElementById("back");
if (back && sessionStorage.getItem("back")) back.value = sessionStorage.getItem("back");
