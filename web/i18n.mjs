/** The widgets' words, from `locales/<language>/main.json` as the server gives them. */

const FALLBACK = "en";

/**
 * @param {Record<string, {dicetalk?: object}>} messages by language, then by path
 * @param {string} locale as ComfyUI spells it; `zh-TW` falls back to `zh`
 * @returns {(key: string, params?: object) => string} `{name}` in a message is replaced by `params.name`
 */
export function translator(messages, locale) {
  const languages = [locale, locale.split("-")[0], FALLBACK];
  const find = (key) => {
    for (const language of languages) {
      const text = key.split(".").reduce((table, part) => table?.[part], messages[language]?.dicetalk);
      if (typeof text === "string") return text;
    }
    return key;
  };
  return (key, params = {}) => find(key).replace(/\{(\w+)\}/g, (whole, name) => params[name] ?? whole);
}
