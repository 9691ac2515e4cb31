() => {
    // Once a page: a link to #run-12, below a reply or in History, opens that run here.
    if (window.microscopeLinks) return;
    window.microscopeLinks = true;
    document.documentElement.classList.add("has-microscope");
    const follow = () => {
        const run = /^#run-(\d+)$/.exec(location.hash);
        const tab = document.querySelector("#tab-microscope-button");
        if (!run || !tab) return;
        window.microscopeRun = Number(run[1]);
        history.replaceState(null, "", location.pathname + location.search); // it may come again
        tab.click();
    };
    addEventListener("hashchange", follow);
    follow();
}
