// Keys of the whole page, run by Gradio when it is shown: Escape stops, Ctrl/Cmd+Shift+O begins a
// new chat, "/" goes to the message box, arrows go from tab to tab. Enter sends by Gradio's own
// text box.
() => {
  const seen = (selector) =>
    [...document.querySelectorAll(selector)].find((each) => each.checkVisibility());
  const message = () => document.querySelector('#chat-prompt textarea');
  const typing = (target) => target.closest('input, textarea, select, [contenteditable="true"]');

  function stop() {
    const help = document.querySelector('.keys[open]');
    if (help) {
      help.open = false;
    } else if (!seen('[role="listbox"], [role="dialog"], dialog[open]')) {
      seen('button.while-busy')?.click();
    }
  }

  function newChat() {
    document.querySelector('#tab-chat-button')?.click();
    document.querySelector('#chat-clear')?.click();
    const focus = () => (seen('#chat-prompt') ? message().focus() : requestAnimationFrame(focus));
    focus();
  }

  function goToTab(tab, step) {
    const tabs = [...tab.parentElement.querySelectorAll('[role="tab"]')];
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    next.click();
    next.focus();
  }

  document.addEventListener('keydown', (event) => {
    if (event.isComposing || event.altKey) { return; }
    const held = event.ctrlKey || event.metaKey;
    if (event.key === 'Escape' && !held) {
      stop();
    } else if (event.code === 'KeyO' && held && event.shiftKey) {
      event.preventDefault(); // else it opens the browser's bookmarks
      newChat();
    } else if (event.key === '/' && !held && !typing(event.target) && seen('#chat-prompt')) {
      event.preventDefault();
      message().focus();
    } else if (/^Arrow(Left|Right)$/.test(event.key) && event.target.matches('[role="tab"]')) {
      goToTab(event.target, event.key === 'ArrowRight' ? 1 : -1);
    } else if (event.key === 'Tab' && event.target.matches('[role="combobox"]')) {
      // Gradio 6.31 closes the list at the blur and opens it again for this key; Chromium's focus
      // would stop at a list that scrolls.
      event.stopPropagation();
      document.querySelectorAll('[role="listbox"]').forEach((list) => { list.tabIndex = -1; });
    }
  }, true);
}
