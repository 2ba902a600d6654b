// Mailed links lead to the root of the site, where this page is while the docs are on.
if (/^#\/[a-z-]+\?token=/.test(location.hash)) {
  location.replace("/links" + location.hash);
}

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: true,
  validatorUrl: "none", // by default it shows the description to a validator on the internet
});
