"""The page. Only this package and plugin tabs import gradio, and only when the page is built."""
