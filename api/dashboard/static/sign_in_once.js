// The link's token stands behind its `#`, which browsers send to no server; here it goes into the form, once.

const form = document.getElementById("once");
const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
if (token) {
  form.elements.token.value = token;
  form.submit();
}
