/* Choosing a filter shows its events at once; without this script the button does. */
document.querySelectorAll("form.search select").forEach((select) => {
  select.addEventListener("change", () => select.form.requestSubmit());
});
document.querySelectorAll("form.search").forEach((form) => {
  form.addEventListener("submit", () => {
    form.querySelectorAll("input, select").forEach((field) => { field.disabled = !field.value; });
  });
});
