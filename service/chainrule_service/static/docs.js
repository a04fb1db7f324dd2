// Start Swagger UI on the page's own API description. A file of its own: the Content-Security-Policy forbids inline scripts.
(function () {
  "use strict";
  // Swagger UI has a dark theme, but asks for it by a class instead of by the reader's own setting.
  var dark = window.matchMedia("(prefers-color-scheme: dark)");
  function follow() {
    document.documentElement.classList.toggle("dark-mode", dark.matches);
  }
  follow();
  dark.addEventListener("change", follow);

  var element = document.getElementById("swagger-ui");
  window.SwaggerUIBundle({
    url: element.dataset.spec,
    domNode: element,
    deepLinking: true,
    validatorUrl: null, // the default sends the description to another host
    queryConfigEnabled: false, // or a link could load somebody else's description
    tryItOutEnabled: true,
    presets: [window.SwaggerUIBundle.presets.apis]
  });
})();
