() => {
    // Once a page: the arrow keys step through the blocks while the tab is seen and nothing else
    // (a text box, the slider itself, a chart) wants them.
    if (window.microscopeKeys) return;
    window.microscopeKeys = true;
    const keys = {ArrowLeft: "microscope-previous", ArrowRight: "microscope-next"};
    document.addEventListener("keydown", (event) => {
        const button = document.getElementById(keys[event.key] || "");
        const busy = event.target.closest("input, textarea, select, [role=tab], [contenteditable]");
        const changed = event.ctrlKey || event.altKey || event.metaKey || event.shiftKey;
        if (!button || !button.offsetParent || busy || changed) return;
        event.preventDefault();
        button.click();
    });
}
