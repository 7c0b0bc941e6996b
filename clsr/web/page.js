// Players and strips of the hits. Listeners are on the document, since each search replaces the hits.
(() => {
  const STEP_S = {ArrowLeft: -5, ArrowDown: -5, ArrowRight: 5, ArrowUp: 5, PageDown: -30, PageUp: 30};
  const clock = (s) => {
    const whole = Math.floor(s), h = Math.floor(whole / 3600), m = Math.floor(whole / 60) % 60;
    const two = (n) => String(n).padStart(2, "0");
    return h ? `${h}:${two(m)}:${two(whole % 60)}` : `${two(m)}:${two(whole % 60)}`;
  };
  const hitOf = (element) => element.closest && element.closest(".hit");
  const player = (hit) => hit.querySelector("audio");
  const duration = (strip) => Number(strip.dataset.duration);

  function show(hit, time) {
    const strip = hit.querySelector(".strip");
    strip.querySelector(".line").style.left = `${Math.min(100, 100 * time / duration(strip))}%`;
    strip.setAttribute("aria-valuenow", time.toFixed(3));
    strip.setAttribute("aria-valuetext", `${clock(time)} of ${clock(duration(strip))}`);
  }

  const pauseOthers = (audio) =>
    document.querySelectorAll(".hit audio").forEach((other) => other !== audio && other.pause());

  // The moment that Play has started. It ends there, and anything else that moves the player lets it go on.
  let moment = null;

  function stopAtEnd(audio) {
    if (!moment || moment.audio !== audio || audio.paused) return;
    const left = moment.end - audio.currentTime;
    if (left <= 0) { moment = null; audio.pause(); }
    else if (left < 0.5) setTimeout(stopAtEnd, 1000 * left / audio.playbackRate, audio);  // timeupdate is too coarse
  }

  function playFrom(hit, time, play = true, end = null) {
    const audio = player(hit);
    moment = end === null ? null : {audio, start: time, end};
    const start = () => {
      audio.currentTime = time;
      if (!play) return;
      pauseOthers(audio);  // here and not in the play event, which fires after the sound starts
      audio.play().catch(() => {});
    };
    show(hit, time);
    if (audio.readyState >= 1) start();
    else { audio.addEventListener("loadedmetadata", start, {once: true}); audio.load(); }
  }

  const timeAt = (strip, event) => {
    const box = strip.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    return Math.min(share * duration(strip), duration(strip) - 0.05);
  };

  document.addEventListener("click", (event) => {
    const hit = hitOf(event.target);
    if (!hit) return;
    const at = event.target.closest("[data-at]"), strip = event.target.closest(".strip");
    if (at) playFrom(hit, Number(at.dataset.at), true, "end" in at.dataset ? Number(at.dataset.end) : null);
    else if (strip) playFrom(hit, timeAt(strip, event));
  });

  document.addEventListener("keydown", (event) => {
    const strip = event.target.closest && event.target.closest(".strip");
    if (!strip || event.ctrlKey || event.altKey || event.metaKey) return;
    const hit = hitOf(strip), audio = player(hit), last = duration(strip) - 0.05;
    const now = Number(strip.getAttribute("aria-valuenow"));
    if (event.key in STEP_S) playFrom(hit, Math.min(last, Math.max(0, now + STEP_S[event.key])), !audio.paused);
    else if (event.key === "Home") playFrom(hit, 0, !audio.paused);
    else if (event.key === "End") playFrom(hit, last, !audio.paused);
    else if (event.key === "Enter" || event.key === " ") audio.paused ? playFrom(hit, now) : audio.pause();
    else return;
    event.preventDefault();
  });

  // Show the time under the pointer.
  document.addEventListener("pointermove", (event) => {
    const strip = event.target.closest && event.target.closest(".strip");
    if (!strip || event.pointerType === "touch") return;
    const label = strip.querySelector(".under"), time = timeAt(strip, event);
    label.hidden = false;
    label.textContent = clock(time);
    label.style.left = `${Math.min(96, Math.max(4, 100 * time / duration(strip)))}%`;
  });
  document.addEventListener("pointerout", (event) => {
    const strip = event.target.closest && event.target.closest(".strip");
    if (strip && !strip.contains(event.relatedTarget)) strip.querySelector(".under").hidden = true;
  });

  // Buttons that cancel a job or remove an upload.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-delete]");
    if (!button || (button.dataset.sure && !confirm(button.dataset.sure))) return;
    button.disabled = true;
    const answer = await fetch(button.dataset.delete, {method: "DELETE"});
    if (!answer.ok) alert((await answer.json()).detail);
    document.querySelector("#refresh").click();
  });

  // With another token, or a server of another token at this address, the page has to be opened anew.
  const send = window.fetch;
  window.fetch = async (...request) => {
    const answer = await send(...request);
    if (answer.status === 401 && !document.querySelector(".logged-out")) {
      const note = document.createElement("p");
      note.className = "logged-out";
      note.setAttribute("role", "alert");
      note.innerHTML = 'You are logged out. <a href="/">Log in again</a>';
      document.body.prepend(note);
    }
    return answer;
  };

  // Media events do not bubble, so they are captured.
  const onMedia = (name, act) => document.addEventListener(name, (event) => {
    const hit = event.target.tagName === "AUDIO" && hitOf(event.target);
    if (hit) act(hit, event.target);
  }, true);
  onMedia("timeupdate", (hit, audio) => {
    show(hit, audio.currentTime);
    stopAtEnd(audio);
  });
  onMedia("seeking", (hit, audio) => {  // the browser's own controls fire it too
    show(hit, audio.currentTime);
    // On a busy machine the event of our own seek comes when the moment already plays.
    if (moment && moment.audio === audio && Math.abs(audio.currentTime - moment.start) > 1) moment = null;
  });
  onMedia("play", (hit, audio) => {  // the browser's own controls fire it too
    hit.classList.add("playing");
    pauseOthers(audio);
  });
  onMedia("pause", (hit) => hit.classList.remove("playing"));
  onMedia("error", (hit, audio) => {  // the browser cannot play this format: load it as wav
    if (audio.dataset.wav && !audio.src.includes(audio.dataset.wav)) {
      audio.src = audio.dataset.wav + new URL(audio.src).hash;
      audio.load();
    }
  });
})();
