// The search runs in a Worker, which browsers refuse to pages opened from a disk: there its script runs in a hidden frame.
if (location.protocol === "file:") {
  const load = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((done, failed) => {
    const script = document.createElement("script")
    Object.assign(script, {src: url, onload: done, onerror: failed})
    document.body.appendChild(script)
  })), Promise.resolve())

  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      this.frame = frame.contentWindow
      this.ready = new Promise(done => frame.addEventListener("load", done))
      addEventListener("message", event => {
        if (event.source === this.frame)
          this.dispatchEvent(new MessageEvent("message", {data: event.data}))
      })
      const page = frame.contentDocument
      page.open()
      page.write(`<body><script>postMessage = data => parent.postMessage(data, "*"); importScripts = ${load}</script>`
        + `<script src="${url}"></script></body>`)
      page.close()
    }

    postMessage(data) {
      this.ready.then(() => this.frame.dispatchEvent(new MessageEvent("message", {data})))
    }
  }
}
